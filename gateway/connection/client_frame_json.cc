#include "gateway/connection/client_frame_json.h"

#include <array>
#include <optional>
#include <string>

#include "boost/json/monotonic_resource.hpp"
#include "boost/json/parse.hpp"
#include "boost/json/value.hpp"

namespace clarion::gateway {
namespace {

namespace json = boost::json;

constexpr size_t kMaxDepth = 32;

// The members of one object, taken one after the other by name; what is left over is unknown.
// Keeps the first problem it meets.
class Reader {
 public:
  Reader(json::object& members, std::string path) : members_(members), path_(std::move(path)) {}

  // Null when absent (or null).
  json::value* Take(std::string_view key) {
    json::value* value = members_.if_contains({key.data(), key.size()});
    if (value == nullptr) return nullptr;
    ++taken_;
    return value->is_null() ? nullptr : value;
  }

  template <class Set>
  void Text(std::string_view key, Set set) {
    json::value* value = Take(key);
    if (value == nullptr) return;
    const json::string* text = value->if_string();
    if (text == nullptr) return Wrong(key, "must be a string");
    set(std::string(text->data(), text->size()));
  }

  template <class Set>
  void Number(std::string_view key, uint64_t max, Set set) {
    json::value* value = Take(key);
    if (value == nullptr) return;
    boost::system::error_code error;
    const auto number = value->to_number<uint64_t>(error);
    if (error || value->is_double() || number > max) {
      return Wrong(key, "must be a whole number from 0 to " + std::to_string(max));
    }
    set(number);
  }

  template <class Set>
  void Flag(std::string_view key, Set set) {
    json::value* value = Take(key);
    if (value == nullptr) return;
    const bool* flag = value->if_bool();
    if (flag == nullptr) return Wrong(key, "must be true or false");
    set(*flag);
  }

  void Wrong(std::string_view key, std::string_view what) {
    if (problem_.empty()) problem_.append(path_).append(key).append(" ").append(what);
  }

  // The first problem; unknown members are one.
  std::string Finish(std::initializer_list<std::string_view> known) {
    if (!problem_.empty() || taken_ == members_.size()) return problem_;
    for (const auto& member : members_) {
      bool is_known = false;
      for (std::string_view name : known)
        is_known |= member.key() == json::string_view(name.data(), name.size());
      if (!is_known) {
        Wrong(std::string_view(member.key().data(), member.key().size()).substr(0, 64),
              "is unknown");
        break;
      }
    }
    return problem_;
  }

 private:
  json::object& members_;
  std::string path_;
  size_t taken_ = 0;
  std::string problem_;
};

constexpr uint64_t kMaxOffset = (1ull << 53) - 1;
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
  Reader reader(value.get_object(), path + ".");
  reader.Text("epoch", [&](std::string text) { position.set_epoch(std::move(text)); });
  reader.Number("offset", kMaxOffset, [&](uint64_t number) { position.set_offset(number); });
  return reader.Finish({"epoch", "offset"});
}

std::string Read(json::value& value, const std::string& path, v1::ThreadPosition& position) {
  if (!value.is_object()) return path + " must be an object";
  Reader reader(value.get_object(), path + ".");
  reader.Text("thread_id", [&](std::string text) { position.set_thread_id(std::move(text)); });
  reader.Text("epoch", [&](std::string text) { position.set_epoch(std::move(text)); });
  reader.Number("offset", kMaxOffset, [&](uint64_t number) { position.set_offset(number); });
  return reader.Finish({"thread_id", "epoch", "offset"});
}

// `after`: one position, or with `all` a list of them.
std::string ReadAfter(json::value& value, const std::string& path, v1::Subscribe& subscribe) {
  if (!value.is_array()) return Read(value, path, *subscribe.mutable_after());
  if (!subscribe.all()) return path + " must be one position unless all is true";
  size_t index = 0;
  for (json::value& item : value.get_array()) {
    const std::string item_path = path + "[" + std::to_string(index++) + "]";
    if (auto problem = Read(item, item_path, *subscribe.add_positions()); !problem.empty()) {
      return problem;
    }
  }
  return "";
}

// The fields of a frame's object besides `type` and `id`, which only the outermost object has.
std::string Fields(Reader& reader, const std::string& path, v1::Subscribe& subscribe) {
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

std::string Fields(Reader& reader, const std::string&, v1::Connect& connect) {
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
      Reader entry(item.get_object(), path);
      if (auto problem = Fields(entry, path, *connect.add_subscribe()); !problem.empty()) {
        return problem;
      }
    }
  }
  return reader.Finish({"type", "id", "token", "protocol", "client", "subscribe"});
}

std::string Fields(Reader& reader, const std::string&, v1::Unsubscribe& unsubscribe) {
  reader.Text("thread_id", [&](std::string text) { unsubscribe.set_thread_id(std::move(text)); });
  reader.Flag("all", [&](bool flag) { unsubscribe.set_all(flag); });
  return reader.Finish({"type", "id", "thread_id", "all"});
}

std::string Fields(Reader& reader, const std::string&, v1::Ack& ack) {
  reader.Text("thread_id", [&](std::string text) { ack.set_thread_id(std::move(text)); });
  reader.Text("epoch", [&](std::string text) { ack.set_epoch(std::move(text)); });
  reader.Number("offset", kMaxOffset, [&](uint64_t number) { ack.set_offset(number); });
  return reader.Finish({"type", "id", "thread_id", "epoch", "offset"});
}

std::string Fields(Reader& reader, const std::string&, v1::Refresh& refresh) {
  reader.Text("token", [&](std::string text) { refresh.set_token(std::move(text)); });
  return reader.Finish({"type", "id", "token"});
}

std::string Fields(Reader& reader, const std::string&, v1::Pong&) {
  return reader.Finish({"type", "id"});
}

std::string Fields(Reader& reader, const std::string&, v1::ProbeReply& reply) {
  reader.Text("nonce", [&](std::string text) { reply.set_nonce(std::move(text)); });
  return reader.Finish({"type", "id", "nonce"});
}

// Reserved: its fields are not looked at, the answer is the same.
std::string Fields(Reader&, const std::string&, v1::RunInput&) {
  return "";
}

std::string ReadFrame(std::string_view type, Reader& reader, v1::ClientFrame& frame) {
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
  message.verdict = ClientMessage::Verdict::kInvalid;
  Reader reader(root.get_object(), "");
  reader.Text("id", [&](std::string id) { message.frame.set_id(std::move(id)); });
  std::optional<std::string> type;
  reader.Text("type", [&](std::string name) { type = std::move(name); });
  message.problem = type ? ReadFrame(*type, reader, message.frame) : "type is required, a string";
  if (message.problem.empty()) message.verdict = ClientMessage::Verdict::kValid;
  return message;
}

}  // namespace clarion::gateway
