#include "gateway/connection/client_frame_json.h"

#include <array>
#include <optional>
#include <string>

#include "boost/json/monotonic_resource.hpp"
#include "boost/json/parse.hpp"
#include "boost/json/value.hpp"
#include "gateway/connection/json_reader.h"
#include "proto/contract/limits.h"

namespace clarion::gateway {
namespace {

namespace json = boost::json;

constexpr size_t kMaxDepth = 32;

constexpr uint64_t kMaxUint32 = UINT32_MAX;

std::optional<v1::StartFrom> StartFromNamed(std::string_view name) {
  if (name == "unfinished") return v1::START_FROM_UNFINISHED;
  if (name == "start") return v1::START_FROM_START;
  if (name == "live") return v1::START_FROM_LIVE;
  return std::nullopt;
}

std::optional<v1::History> HistoryNamed(std::string_view name) {
  if (name == "full") return v1::HISTORY_FULL;
  if (name == "compacted") return v1::HISTORY_COMPACTED;
  return std::nullopt;
}

std::string Read(json::value& value, const std::string& path, v1::Position& position) {
  if (!value.is_object()) return path + " must be an object";
  JsonReader reader(value.get_object(), path + ".");
  reader.Text("epoch", [&](std::string text) { position.set_epoch(std::move(text)); });
  reader.Number("offset", kMaxInteger, [&](uint64_t number) { position.set_offset(number); });
  return reader.Finish({"epoch", "offset"});
}

// `after`: one position, or with `all` a list of them.
std::string ReadAfter(json::value& value, const std::string& path, v1::Subscribe& subscribe) {
  if (!value.is_array()) return Read(value, path, *subscribe.mutable_after());
  if (!subscribe.all()) return path + " must be one position unless all is true";
  size_t index = 0;
  for (json::value& item : value.get_array()) {
    const std::string item_path = path + "[" + std::to_string(index++) + "]";
    if (auto problem = ReadThreadPosition(item, item_path, *subscribe.add_positions());
        !problem.empty()) {
      return problem;
    }
  }
  return "";
}

// The fields of a frame's object besides `type` and `id`, which only the outermost object has.
std::string Fields(JsonReader& reader, const std::string& path, v1::Subscribe& subscribe) {
  reader.Text("thread_id", [&](std::string text) { subscribe.set_thread_id(std::move(text)); });
  reader.Flag("all", [&](bool flag) { subscribe.set_all(flag); });
  reader.Text("from", [&](const std::string& text) {
    const auto from = StartFromNamed(text);
    if (!from) return reader.Wrong("from", "must be unfinished, start or live");
    subscribe.set_from(*from);
  });
  reader.Text("history", [&](const std::string& text) {
    const auto history = HistoryNamed(text);
    if (!history) return reader.Wrong("history", "must be compacted or full");
    subscribe.set_history(*history);
  });
  if (json::value* after = reader.Take("after")) {
    if (auto problem = ReadAfter(*after, path + "after", subscribe); !problem.empty())
      return problem;
  }
  return reader.Finish({"type", "id", "thread_id", "all", "from", "history", "after"});
}

std::string Fields(JsonReader& reader, const std::string&, v1::Connect& connect) {
  reader.Text("token", [&](std::string text) { connect.set_token(std::move(text)); });
  reader.Number("protocol", kMaxUint32,
                [&](uint64_t number) { connect.set_protocol(static_cast<uint32_t>(number)); });
  reader.Text("client", [&](std::string text) { connect.set_client(std::move(text)); });
  if (json::value* list = reader.Take("subscribe")) {
    if (!list->is_array()) return "subscribe must be a list";
    for (json::value& item : list->get_array()) {
      const std::string path = "subscribe[" + std::to_string(connect.subscribe_size()) + "].";
      if (!item.is_object()) return path + " must be an object";
      if (item.get_object().contains("type") || item.get_object().contains("id")) {
        return path + "type and id do not belong here";
      }
      JsonReader entry(item.get_object(), path);
      if (auto problem = Fields(entry, path, *connect.add_subscribe()); !problem.empty()) {
        return problem;
      }
    }
  }
  return reader.Finish({"type", "id", "token", "protocol", "client", "subscribe"});
}

std::string Fields(JsonReader& reader, const std::string&, v1::Unsubscribe& unsubscribe) {
  reader.Text("thread_id", [&](std::string text) { unsubscribe.set_thread_id(std::move(text)); });
  reader.Flag("all", [&](bool flag) { unsubscribe.set_all(flag); });
  return reader.Finish({"type", "id", "thread_id", "all"});
}

std::string Fields(JsonReader& reader, const std::string&, v1::Ack& ack) {
  reader.Text("thread_id", [&](std::string text) { ack.set_thread_id(std::move(text)); });
  reader.Text("epoch", [&](std::string text) { ack.set_epoch(std::move(text)); });
  reader.Number("offset", kMaxInteger, [&](uint64_t number) { ack.set_offset(number); });
  return reader.Finish({"type", "id", "thread_id", "epoch", "offset"});
}

std::string Fields(JsonReader& reader, const std::string&, v1::Refresh& refresh) {
  reader.Text("token", [&](std::string text) { refresh.set_token(std::move(text)); });
  return reader.Finish({"type", "id", "token"});
}

std::string Fields(JsonReader& reader, const std::string&, v1::Pong&) {
  return reader.Finish({"type", "id"});
}

std::string Fields(JsonReader& reader, const std::string&, v1::ProbeReply& reply) {
  reader.Text("nonce", [&](std::string text) { reply.set_nonce(std::move(text)); });
  return reader.Finish({"type", "id", "nonce"});
}

// Reserved: its fields are not looked at, the answer is the same.
std::string Fields(JsonReader&, const std::string&, v1::RunInput&) {
  return "";
}

std::string ReadFrame(std::string_view type, JsonReader& reader, v1::ClientFrame& frame) {
  if (type == "connect") return Fields(reader, "", *frame.mutable_connect());
  if (type == "subscribe") return Fields(reader, "", *frame.mutable_subscribe());
  if (type == "unsubscribe") return Fields(reader, "", *frame.mutable_unsubscribe());
  if (type == "ack") return Fields(reader, "", *frame.mutable_ack());
  if (type == "refresh") return Fields(reader, "", *frame.mutable_refresh());
  if (type == "pong") return Fields(reader, "", *frame.mutable_pong());
  if (type == "probe_reply") return Fields(reader, "", *frame.mutable_probe_reply());
  if (type == "run_input") return Fields(reader, "", *frame.mutable_run_input());
  return "type is unknown";
}

}  // namespace

std::string ReadThreadPosition(json::value& value, const std::string& path,
                               v1::ThreadPosition& position) {
  if (!value.is_object()) return path + " must be an object";
  JsonReader reader(value.get_object(), path + ".");
  reader.Text("thread_id", [&](std::string text) { position.set_thread_id(std::move(text)); });
  reader.Text("epoch", [&](std::string text) { position.set_epoch(std::move(text)); });
  reader.Number("offset", kMaxInteger, [&](uint64_t number) { position.set_offset(number); });
  return reader.Finish({"thread_id", "epoch", "offset"});
}

ClientMessage ParseClientJson(std::string_view text) {
  ClientMessage message;
  // Most frames fit here: no allocation for the tree.
  std::array<unsigned char, 4096> room;
  json::monotonic_resource memory(room.data(), room.size());
  json::parse_options options;
  options.max_depth = kMaxDepth;
  boost::system::error_code error;
  json::value root = json::parse({text.data(), text.size()}, error, &memory, options);
  if (error) {
    message.problem = "not JSON: " + error.message();
    return message;
  }
  if (!root.is_object()) {
    message.problem = "a frame is a JSON object";
    return message;
  }
  return ParseClientObject(root.get_object());
}

ClientMessage ParseClientObject(json::object& frame) {
  ClientMessage message;
  message.verdict = ClientMessage::Verdict::kInvalid;
  JsonReader reader(frame, "");
  reader.Text("id", [&](std::string id) { message.frame.set_id(std::move(id)); });
  std::optional<std::string> type;
  reader.Text("type", [&](std::string name) { type = std::move(name); });
  message.problem = type ? ReadFrame(*type, reader, message.frame) : "type is required, a string";
  if (message.problem.empty()) message.verdict = ClientMessage::Verdict::kValid;
  return message;
}

}  // namespace clarion::gateway
