#include "service/ctl/publish_lines.h"

#include <cstdio>
#include <random>

#include "boost/json/parse.hpp"
#include "proto/base/text.h"
#include "proto/contract/event_json.h"
#include "proto/contract/json_text.h"

namespace clarion::ctl {

std::string MakeEventId() {
  static std::random_device random;
  std::string id = "ctl-";
  for (int i = 0; i < 4; ++i) {
    char digits[9];
    std::snprintf(digits, sizeof(digits), "%08x", random());
    id += digits;
  }
  return id;
}

absl::StatusOr<v1::Event> EventFromLine(std::string_view line, const EventDefaults& defaults) {
  auto event = EventFromJson(line);
  if (!event.ok()) return event;
  if (event->user_id().empty()) event->set_user_id(defaults.user);
  if (event->thread_id().empty()) event->set_thread_id(defaults.thread);
  if (event->run_id().empty()) event->set_run_id(defaults.run);
  if (event->agent_name().empty()) event->set_agent_name(defaults.agent);
  if (event->event_id().empty()) event->set_event_id(MakeEventId());
  return event;
}

std::string EventIdIn(std::string_view line) {
  boost::json::error_code error;
  const boost::json::value value = boost::json::parse({line.data(), line.size()}, error);
  if (error || !value.is_object()) return "";
  const boost::json::value* id = value.get_object().if_contains("event_id");
  return id != nullptr && id->is_string() ? std::string(id->get_string()) : "";
}

absl::StatusOr<std::string> LineFromFields(std::string_view type,
                                           const std::vector<std::string>& fields) {
  std::string line = R"({"type":)";
  AppendJsonString(CleanUtf8(type), &line);
  for (const std::string& field : fields) {
    const size_t equals = field.find('=');
    if (equals == std::string::npos || equals == 0) {
      return absl::InvalidArgumentError(
          Concat("--field ", field, " must be NAME=TEXT or NAME:=JSON"));
    }
    const bool json = field[equals - 1] == ':';
    const std::string value = field.substr(equals + 1);
    line.push_back(',');
    AppendJsonString(CleanUtf8(field.substr(0, json ? equals - 1 : equals)), &line);
    line.push_back(':');
    if (!json) {
      AppendJsonString(CleanUtf8(value), &line);
    } else if (ValidJsonText(value)) {
      line.append(value);
    } else {
      return absl::InvalidArgumentError(Concat("--field ", field, ": not valid JSON behind :="));
    }
  }
  line.push_back('}');
  return line;
}

}  // namespace clarion::ctl
