#include "service/runs/partial_result.h"

#include <algorithm>
#include <string_view>

#include "proto/contract/event_json.h"
#include "proto/contract/json_text.h"

namespace clarion::runs {
namespace {

// For what stands around the texts.
constexpr size_t kFrameBytes = 256;
// A text is taken in such pieces, so that at most this much of it is left out in vain.
constexpr size_t kPieceBytes = 64;

std::string_view StatusName(v1::ToolStatus status) {
  switch (status) {
    case v1::TOOL_STATUS_SUCCEEDED:
      return "succeeded";
    case v1::TOOL_STATUS_FAILED:
      return "failed";
    case v1::TOOL_STATUS_CANCELLED:
      return "cancelled";
    default:
      return "abandoned";
  }
}

// The length of the first piece of `text`, which ends between characters.
size_t PieceOf(std::string_view text) {
  if (text.size() <= kPieceBytes) return text.size();
  size_t end = kPieceBytes;
  while (end > 1 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return end;
}

}  // namespace

void PartialResult::Add(const v1::Event& event) {
  if (event.has_agent_message_delta()) AddDelta(event.agent_message_delta());
  if (event.has_tool_completed()) AddTool(event.tool_completed());
}

void PartialResult::AddDelta(const v1::AgentMessageDelta& delta) {
  const auto same = std::find_if(messages_.rbegin(), messages_.rend(), [&](const Message& message) {
    return message.id == delta.message_id() && message.role == delta.role();
  });
  const size_t size = delta.delta().size() + (same == messages_.rend() ? kFrameBytes : 0);
  if (bytes_ + size > max_bytes_) {
    truncated_ = true;
    return;
  }
  bytes_ += size;
  Message& message = same == messages_.rend()
                         ? messages_.emplace_back(Message{delta.message_id(), delta.role(), {}})
                         : *same;
  message.text += delta.delta();
}

void PartialResult::AddTool(const v1::ToolCompleted& completed) {
  std::string json = R"({"tool_call_id":)";
  AppendJsonString(completed.tool_call_id(), &json);
  json += R"(,"tool_name":)";
  AppendJsonString(completed.tool_name(), &json);
  json += R"(,"status":)";
  AppendJsonString(StatusName(completed.status()), &json);
  if (completed.has_result()) json += R"(,"result":)" + completed.result();
  json += "}";
  if (bytes_ + json.size() > max_bytes_) {
    truncated_ = true;
    return;
  }
  bytes_ += json.size();
  tools_.push_back(std::move(json));
}

void PartialResult::AppendText(const std::string& text, std::string& json) {
  std::string_view rest = text;
  std::string piece;
  json += '"';
  while (!rest.empty()) {
    const size_t length = PieceOf(rest);
    piece.clear();
    AppendJsonString(rest.substr(0, length), &piece);
    if (json.size() + piece.size() + kFrameBytes > max_bytes_) {
      truncated_ = true;
      break;
    }
    json.append(piece, 1, piece.size() - 2);
    rest.remove_prefix(length);
  }
  json += '"';
}

std::string PartialResult::Json() {
  // Results of tools first: they are taken whole or not at all.
  std::string tools;
  for (const std::string& tool : tools_) {
    if (tools.size() + tool.size() + kFrameBytes > max_bytes_) {
      truncated_ = true;
      break;
    }
    if (!tools.empty()) tools += ',';
    tools += tool;
  }
  std::string json = R"({"tools":[)" + tools + R"(],"messages":[)";
  bool first = true;
  for (const Message& message : messages_) {
    if (json.size() + 2 * kFrameBytes + message.id.size() + message.role.size() > max_bytes_) {
      truncated_ = true;
      break;
    }
    json += first ? R"({"message_id":)" : R"(,{"message_id":)";
    first = false;
    AppendJsonString(message.id, &json);
    json += R"(,"role":)";
    AppendJsonString(message.role, &json);
    json += R"(,"text":)";
    AppendText(message.text, json);
    json += '}';
  }
  json += truncated_ ? R"(],"truncated":true})" : R"(],"truncated":false})";
  return json;
}

}  // namespace clarion::runs
