#include "gateway/connection/page_request.h"

#include <utility>

#include "boost/json/parse.hpp"
#include "boost/json/value.hpp"
#include "gateway/connection/client_frame_check.h"
#include "gateway/connection/client_frame_json.h"
#include "gateway/connection/json_reader.h"
#include "proto/contract/limits.h"

namespace clarion::gateway {
namespace {

namespace json = boost::json;

constexpr size_t kMaxBodyDepth = 34;  // a frame's, in a list, in an object

std::string ReadMessages(json::value& value, PageRequest& request) {
  if (!value.is_array()) return "messages must be a list";
  if (value.get_array().size() > kMaxMessagesAtOnce) return "more than 1,000 messages";
  for (json::value& message : value.get_array()) {
    if (!message.is_object()) return "a message is a JSON object";
    request.messages.push_back(Checked(ParseClientObject(message.get_object())));
  }
  return "";
}

std::string ReadPositions(json::value& value, PageRequest& request) {
  if (!value.is_array()) return "positions must be a list";
  if (value.get_array().size() > kMaxPositions) return "more than 1,024 positions";
  for (json::value& item : value.get_array()) {
    const std::string path = "positions[" + std::to_string(request.positions.size()) + "]";
    v1::ThreadPosition& position = request.positions.emplace_back();
    if (auto problem = ReadThreadPosition(item, path, position); !problem.empty()) return problem;
    if (auto problem = ProblemOf("positions", position); !problem.empty()) return problem;
  }
  return "";
}

// Seconds.
std::string ReadWait(const json::value& value, PageRequest& request) {
  boost::system::error_code error;
  const auto seconds = value.to_number<double>(error);
  const auto longest = static_cast<double>(kLongestWait.count());
  if (error || !(seconds >= 0 && seconds <= longest)) return "wait must be 0 to 60 seconds";
  request.wait = std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
  return "";
}

std::string ReadObject(PageRequestKind kind, json::object& body, PageRequest& request) {
  JsonReader reader(body, "");
  if (json::value* messages = reader.Take("messages")) {
    if (auto problem = ReadMessages(*messages, request); !problem.empty()) return problem;
  }
  if (kind == PageRequestKind::kStream) return reader.Finish({"messages"});
  if (kind == PageRequestKind::kPass) {
    reader.Number("sequence", kMaxInteger, [&](uint64_t number) { request.sequence = number; });
    if (request.sequence == 0) reader.Wrong("sequence", "is required: 1, 2, 3 …");
    return reader.Finish({"messages", "sequence"});
  }
  reader.Text("connection_id", [&](std::string id) { request.connection_id = std::move(id); });
  reader.Flag("all", [&](bool flag) { request.all = flag; });
  reader.Text("history", [&](const std::string& name) {
    request.full = name == "full";
    if (name != "full" && name != "compacted") {
      reader.Wrong("history", "must be compacted or full");
    }
  });
  if (json::value* positions = reader.Take("positions")) {
    if (auto problem = ReadPositions(*positions, request); !problem.empty()) return problem;
  }
  if (const json::value* wait = reader.Take("wait")) {
    if (auto problem = ReadWait(*wait, request); !problem.empty()) return problem;
  }
  return reader.Finish({"messages", "connection_id", "all", "history", "positions", "wait"});
}

}  // namespace

std::string ParsePageRequest(PageRequestKind kind, std::string_view body, PageRequest& request) {
  json::parse_options options;
  options.max_depth = kMaxBodyDepth;
  boost::system::error_code error;
  json::value root = json::parse({body.data(), body.size()}, error, {}, options);
  if (error) return "the body is not JSON: " + error.message();
  if (kind == PageRequestKind::kStream) {
    if (root.is_array()) return ReadMessages(root, request);
    if (root.is_object() && root.get_object().contains("type")) {
      request.messages.push_back(Checked(ParseClientObject(root.get_object())));
      return "";
    }
  }
  if (!root.is_object()) return "the body must be a JSON object";
  return ReadObject(kind, root.get_object(), request);
}

}  // namespace clarion::gateway
