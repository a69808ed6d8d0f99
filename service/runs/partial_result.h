// What a run had produced when it was lost: its messages and the results of its tool calls, for
// partial_result_preserved.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "clarion/v1/event.pb.h"

namespace clarion::runs {

// Takes the events of one run in order. Not thread-safe.
class PartialResult {
 public:
  // Of the JSON text; more is left out, and said so.
  explicit PartialResult(size_t max_bytes) : max_bytes_(max_bytes) {}

  void Add(const v1::Event& event);
  // Something that belongs to it is not kept any more.
  void SetTruncated() { truncated_ = true; }

  bool empty() const { return messages_.empty() && tools_.empty(); }
  bool truncated() const { return truncated_; }
  // {"tools":[{"tool_call_id","tool_name","status","result"?}],"messages":[{"message_id","role","text"}],"truncated":bool}.
  // Tool calls in the order of their ends, messages in that of their beginnings, without thoughts.
  std::string Json();

 private:
  struct Message {
    std::string id;
    std::string role;
    std::string text;
  };

  void AddDelta(const v1::AgentMessageDelta& delta);
  void AddTool(const v1::ToolCompleted& completed);
  // Appends what fits.
  void AppendText(const std::string& text, std::string& json);

  const size_t max_bytes_;
  size_t bytes_ = 0;  // of what was taken, unescaped
  bool truncated_ = false;
  std::vector<Message> messages_;
  std::vector<std::string> tools_;  // as JSON
};

}  // namespace clarion::runs
