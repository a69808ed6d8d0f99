// ToJson: control frames as flat JSON. They are rare beside events, so this is written to be read.
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "boost/json/serialize.hpp"
#include "gateway/frames.h"
#include "google/protobuf/timestamp.pb.h"
#include "proto/contract/event_json.h"

namespace clarion::gateway {
namespace {

std::string Quoted(std::string_view text) {
  return boost::json::serialize(boost::json::string_view(text.data(), text.size()));
}

std::string_view NameOf(v1::MissedReason reason) {
  switch (reason) {
    case v1::MISSED_REASON_EXPIRED:
      return "expired";
    case v1::MISSED_REASON_LOG_ROLLED_BACK:
      return "log_rolled_back";
    case v1::MISSED_REASON_DELETED:
      return "deleted";
    default:
      return "";
  }
}

// One flat object; absent and default fields are left out, as stream.proto says.
class Writer {
 public:
  Writer(std::string_view type, std::string_view id) {
    Always("type", Quoted(type));
    Text("id", id);
  }
  void Text(std::string_view key, std::string_view value) {
    if (!value.empty()) Always(key, Quoted(value));
  }
  void Number(std::string_view key, uint64_t value) {
    if (value != 0) Always(key, absl::StrCat(value));
  }
  void Flag(std::string_view key, bool value) {
    if (value) Always(key, "true");
  }
  void Time(std::string_view key, const google::protobuf::Timestamp& value) {
    const absl::Time time =
        absl::FromUnixSeconds(value.seconds()) + absl::Nanoseconds(value.nanos());
    Always(key, Quoted(absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", time, absl::UTCTimeZone())));
  }
  void Always(std::string_view key, std::string_view json) {
    out_.append(out_.empty() ? "{\"" : ",\"").append(key).append("\":").append(json);
  }
  std::string Done() && { return std::move(out_) + "}"; }

 private:
  std::string out_;
};

void Fields(const v1::Connected& connected, Writer& out) {
  out.Text("connection_id", connected.connection_id());
  out.Text("user_id", connected.user_id());
  out.Number("protocol", connected.protocol());
  if (connected.capabilities_size() > 0) {
    std::string list;
    for (const std::string& name : connected.capabilities()) {
      absl::StrAppend(&list, list.empty() ? "[" : ",", Quoted(name));
    }
    out.Always("capabilities", list + "]");
  }
  out.Number("heartbeat_ms", connected.heartbeat_ms());
  if (connected.has_token_expires_at()) out.Time("token_expires_at", connected.token_expires_at());
}

void Fields(const v1::Subscribed& subscribed, Writer& out) {
  out.Text("thread_id", subscribed.thread_id());
  out.Text("epoch", subscribed.epoch());
  out.Number("from_offset", subscribed.from_offset());
  out.Number("last_offset", subscribed.last_offset());
  out.Flag("missed", subscribed.missed());
  if (subscribed.active_runs_size() > 0) {
    std::string list;
    for (const v1::ActiveRun& run : subscribed.active_runs()) {
      absl::StrAppend(&list, list.empty() ? "[" : ",", "{\"run_id\":", Quoted(run.run_id()),
                      ",\"agent_name\":", Quoted(run.agent_name()), ",\"offset\":", run.offset(),
                      "}");
    }
    out.Always("active_runs", list + "]");
  }
  out.Flag("claim", subscribed.claim());
  // A claim says nothing of the thread, and says that in full.
  if (subscribed.claim()) out.Always("offset", "0");
  out.Flag("all", subscribed.all());
}

void Fields(const v1::CaughtUp& caught_up, Writer& out) {
  out.Text("thread_id", caught_up.thread_id());
  out.Number("offset", caught_up.offset());
}

void Fields(const v1::Bound& bound, Writer& out) {
  out.Text("thread_id", bound.thread_id());
}

void Fields(const v1::Unsubscribed& unsubscribed, Writer& out) {
  out.Text("thread_id", unsubscribed.thread_id());
  out.Flag("all", unsubscribed.all());
}

void Fields(const v1::Refreshed& refreshed, Writer& out) {
  if (refreshed.has_token_expires_at()) out.Time("token_expires_at", refreshed.token_expires_at());
}

void Fields(const v1::MissedRange& missed, Writer& out) {
  out.Text("thread_id", missed.thread_id());
  out.Text("epoch", missed.epoch());
  out.Number("from_offset", missed.from_offset());
  out.Number("to_offset", missed.to_offset());
  out.Text("reason", NameOf(missed.reason()));
  if (missed.has_discard_after()) out.Always("discard_after", absl::StrCat(missed.discard_after()));
}

void Fields(const v1::StreamError& error, Writer& out) {
  out.Text("code", error.code());
  out.Text("message", error.message());
  out.Text("user_message", error.user_message());
  out.Flag("reconnect", error.reconnect());
  out.Number("retry_after_ms", error.retry_after_ms());
  out.Text("thread_id", error.thread_id());
}

void Fields(const v1::GoingAway& going_away, Writer& out) {
  out.Number("reconnect_after_ms", going_away.reconnect_after_ms());
}

void Fields(const v1::Ping&, Writer&) {}

void Fields(const v1::Probe& probe, Writer& out) {
  out.Text("nonce", probe.nonce());
}

void Fields(const v1::Acked& acked, Writer& out) {
  out.Text("thread_id", acked.thread_id());
  out.Number("offset", acked.offset());
}

template <class Message>
std::string Control(std::string_view type, std::string_view id, const Message& message) {
  Writer writer(type, id);
  Fields(message, writer);
  return std::move(writer).Done();
}

// Events normally travel as stored bytes (Frames::OfEvents); this is for those made here.
std::string EventObject(const v1::Event& event) {
  std::string out = absl::StrCat("{\"offset\":", event.offset(), ",");
  if (!AppendEventJson(event, &out)) out += "\"type\":\"\"}";
  return out;
}

}  // namespace

std::string ToJson(const v1::ServerFrame& frame) {
  const std::string& id = frame.id();
  switch (frame.frame_case()) {
    case v1::ServerFrame::kConnected:
      return Control("connected", id, frame.connected());
    case v1::ServerFrame::kSubscribed:
      return Control("subscribed", id, frame.subscribed());
    case v1::ServerFrame::kCaughtUp:
      return Control("caught_up", id, frame.caught_up());
    case v1::ServerFrame::kBound:
      return Control("bound", id, frame.bound());
    case v1::ServerFrame::kUnsubscribed:
      return Control("unsubscribed", id, frame.unsubscribed());
    case v1::ServerFrame::kRefreshed:
      return Control("refreshed", id, frame.refreshed());
    case v1::ServerFrame::kMissed:
      return Control("missed", id, frame.missed());
    case v1::ServerFrame::kError:
      return Control("error", id, frame.error());
    case v1::ServerFrame::kGoingAway:
      return Control("going_away", id, frame.going_away());
    case v1::ServerFrame::kPing:
      return Control("ping", id, frame.ping());
    case v1::ServerFrame::kProbe:
      return Control("probe", id, frame.probe());
    case v1::ServerFrame::kAcked:
      return Control("acked", id, frame.acked());
    case v1::ServerFrame::kEvent:
      return EventObject(frame.event());
    case v1::ServerFrame::FRAME_NOT_SET:
      break;
  }
  return "{}";
}

}  // namespace clarion::gateway
