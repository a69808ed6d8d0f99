// Walks JSON text that ValidJsonText has accepted, giving each value's own bytes. For those who
// must pass a value on as it came; a tree would not keep it.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace clarion {

// The members of one object, or the elements of one array. Keeps views into `text`.
class JsonScanner {
 public:
  // Requires valid JSON text: one object or one array, with or without space around it.
  explicit JsonScanner(std::string_view text);

  // False: no more. `key` is decoded, `value` is bytes of the text without space around them.
  bool NextMember(std::string* key, std::string_view* value);
  bool NextElement(std::string_view* value);

 private:
  bool AtEnd();
  std::string_view TakeValue();
  void SkipSpace();

  std::string_view text_;
  size_t at_ = 1;  // behind the opening bracket
};

// Without space before and behind.
std::string_view TrimJson(std::string_view text);
// What a valid JSON string in quotes stands for.
std::string DecodeJsonString(std::string_view quoted);

}  // namespace clarion
