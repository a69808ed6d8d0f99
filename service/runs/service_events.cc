#include "service/runs/service_events.h"

#include "absl/strings/str_format.h"
#include "service/log/log.h"

namespace clarion::runs {

RunName RunOf(const v1::Event& event) {
  return {event.user_id(), event.thread_id(), event.run_id(), event.agent_name()};
}

v1::Event EventOf(const EncodedEvent& event) {
  v1::Event parsed;
  const std::string_view bytes = event.proto();
  // The service has written it.
  (void)parsed.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
  return parsed;
}

v1::Event ServiceEvent(const RunName& run, std::initializer_list<std::string_view> why) {
  std::string parts = run.thread_id;
  const auto add = [&parts](std::string_view part) {
    parts.push_back('\0');  // no id holds one
    parts.append(part);
  };
  add(run.run_id);
  for (const std::string_view part : why) add(part);
  const log::Digest digest = log::Digest::Of(parts);

  v1::Event event;
  event.set_event_id(absl::StrFormat("_%016x%016x", digest.high, digest.low));
  event.set_user_id(run.user_id);
  event.set_thread_id(run.thread_id);
  event.set_run_id(run.run_id);
  event.set_agent_name(run.agent_name);
  return event;
}

}  // namespace clarion::runs
