#include "proto/contract/json_scan.h"

#include "boost/json/parse.hpp"

namespace clarion {
namespace {

constexpr std::string_view kSpace = " \t\n\r";

// One past the closing quote of the string that begins at `at`.
size_t EndOfString(std::string_view text, size_t at) {
  for (++at; text[at] != '"'; ++at) {
    if (text[at] == '\\') ++at;
  }
  return at + 1;
}

size_t EndOfNested(std::string_view text, size_t at) {
  for (size_t depth = 0;;) {
    const char c = text[at];
    if (c == '"') {
      at = EndOfString(text, at);
      continue;
    }
    ++at;
    if (c == '{' || c == '[') ++depth;
    if ((c == '}' || c == ']') && --depth == 0) return at;
  }
}

size_t EndOfValue(std::string_view text, size_t at) {
  switch (text[at]) {
    case '"':
      return EndOfString(text, at);
    case '{':
    case '[':
      return EndOfNested(text, at);
    default:
      return text.find_first_of(",]} \t\n\r", at);
  }
}

}  // namespace

JsonScanner::JsonScanner(std::string_view text) : text_(TrimJson(text)) {}

void JsonScanner::SkipSpace() {
  at_ = text_.find_first_not_of(kSpace, at_);
}

bool JsonScanner::AtEnd() {
  SkipSpace();
  if (text_[at_] == ',') {
    ++at_;
    SkipSpace();
  }
  return at_ + 1 == text_.size();
}

std::string_view JsonScanner::TakeValue() {
  SkipSpace();
  const size_t begin = at_;
  at_ = EndOfValue(text_, begin);
  return text_.substr(begin, at_ - begin);
}

bool JsonScanner::NextMember(std::string* key, std::string_view* value) {
  if (AtEnd()) return false;
  *key = DecodeJsonString(TakeValue());
  SkipSpace();
  ++at_;  // the colon
  *value = TakeValue();
  return true;
}

bool JsonScanner::NextElement(std::string_view* value) {
  if (AtEnd()) return false;
  *value = TakeValue();
  return true;
}

std::string_view TrimJson(std::string_view text) {
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

std::string DecodeJsonString(std::string_view quoted) {
  if (quoted.find('\\') == std::string_view::npos) {
    return std::string(quoted.substr(1, quoted.size() - 2));
  }
  boost::json::error_code error;
  const boost::json::value value = boost::json::parse(quoted, error);
  return error || !value.is_string() ? std::string() : std::string(value.get_string());
}

}  // namespace clarion
