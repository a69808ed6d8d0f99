#include "proto/contract/json_text.h"

#include <array>
#include <charconv>
#include <chrono>
#include <cstring>

#include "boost/json/basic_parser_impl.hpp"

namespace clarion {
namespace {

// What follows the backslash: 0 for characters that go in as they are, `u` for \u00XX.
constexpr std::array<char, 256> kEscapes = [] {
  std::array<char, 256> escapes{};
  for (int c = 0; c < 0x20; ++c) escapes[c] = 'u';
  escapes['\b'] = 'b';
  escapes['\f'] = 'f';
  escapes['\n'] = 'n';
  escapes['\r'] = 'r';
  escapes['\t'] = 't';
  escapes['"'] = '"';
  escapes['\\'] = '\\';
  return escapes;
}();

constexpr uint64_t kLow = 0x0101010101010101;
constexpr uint64_t kHigh = 0x8080808080808080;

constexpr uint64_t ZeroBytes(uint64_t word) {
  return (word - kLow) & ~word & kHigh;
}

// Whether any of eight bytes needs an escape. May answer true for a byte above one that does.
constexpr bool AnyEscape(uint64_t word) {
  const uint64_t control = (word - kLow * 0x20) & ~word & kHigh;
  return (control | ZeroBytes(word ^ (kLow * '"')) | ZeroBytes(word ^ (kLow * '\\'))) != 0;
}

// How many bytes from `from` on go in as they are.
size_t PlainRun(std::string_view text, size_t from) {
  size_t at = from;
  for (; at + sizeof(uint64_t) <= text.size(); at += sizeof(uint64_t)) {
    uint64_t word;
    std::memcpy(&word, text.data() + at, sizeof(word));
    if (AnyEscape(word)) break;
  }
  while (at < text.size() && kEscapes[static_cast<unsigned char>(text[at])] == 0) ++at;
  return at - from;
}

void AppendEscape(char c, std::string* out) {
  const char escape = kEscapes[static_cast<unsigned char>(c)];
  out->push_back('\\');
  out->push_back(escape);
  if (escape != 'u') return;
  constexpr char kHex[] = "0123456789abcdef";
  const char digits[] = {'0', '0', kHex[c >> 4], kHex[c & 15]};
  out->append(digits, sizeof(digits));
}

template <int kDigits>
char* PutDigits(uint32_t value, char* at) {
  for (int i = kDigits - 1; i >= 0; --i) {
    at[i] = static_cast<char>('0' + value % 10);
    value /= 10;
  }
  return at + kDigits;
}

char* PutFraction(uint32_t nanos, char* at) {
  *at++ = '.';
  if (nanos % 1'000'000 == 0) return PutDigits<3>(nanos / 1'000'000, at);
  if (nanos % 1'000 == 0) return PutDigits<6>(nanos / 1'000, at);
  return PutDigits<9>(nanos, at);
}

// Takes what basic_parser finds and keeps nothing of it.
struct Discard {
  static constexpr size_t max_object_size = SIZE_MAX;
  static constexpr size_t max_array_size = SIZE_MAX;
  static constexpr size_t max_key_size = SIZE_MAX;
  static constexpr size_t max_string_size = SIZE_MAX;
  using Error = boost::json::error_code;
  using Text = boost::json::string_view;

  bool on_document_begin(Error&) { return true; }
  bool on_document_end(Error&) { return true; }
  bool on_object_begin(Error&) { return true; }
  bool on_object_end(size_t, Error&) { return true; }
  bool on_array_begin(Error&) { return true; }
  bool on_array_end(size_t, Error&) { return true; }
  bool on_key_part(Text, size_t, Error&) { return true; }
  bool on_key(Text, size_t, Error&) { return true; }
  bool on_string_part(Text, size_t, Error&) { return true; }
  bool on_string(Text, size_t, Error&) { return true; }
  bool on_number_part(Text, Error&) { return true; }
  bool on_int64(int64_t, Text, Error&) { return true; }
  bool on_uint64(uint64_t, Text, Error&) { return true; }
  bool on_double(double, Text, Error&) { return true; }
  bool on_bool(bool, Error&) { return true; }
  bool on_null(Error&) { return true; }
  bool on_comment_part(Text, Error&) { return true; }
  bool on_comment(Text, Error&) { return true; }
};

// Bytes of the UTF-8 character at the beginning of `text`; 0: there is none. Requires text.
size_t CharacterBytes(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xC2 && first <= 0xDF   ? 2
                        : first >= 0xE0 && first <= 0xEF ? 3
                        : first >= 0xF0 && first <= 0xF4 ? 4
                                                         : 0;
  if (length == 0 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  // Overlong forms, surrogates, and what lies beyond U+10FFFF.
  if (first == 0xE0 && byte(1) < 0xA0) return 0;
  if (first == 0xED && byte(1) > 0x9F) return 0;
  if (first == 0xF0 && byte(1) < 0x90) return 0;
  if (first == 0xF4 && byte(1) > 0x8F) return 0;
  return length;
}

}  // namespace

void AppendJsonString(std::string_view text, std::string* out) {
  out->push_back('"');
  for (size_t at = 0;;) {
    const size_t plain = PlainRun(text, at);
    out->append(text.data() + at, plain);
    at += plain;
    if (at == text.size()) break;
    AppendEscape(text[at++], out);
  }
  out->push_back('"');
}

void AppendJsonNumber(uint64_t value, std::string* out) {
  char buffer[24];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value).ptr;
  out->append(buffer, end);
}

void AppendJsonNumber(double value, std::string* out) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value).ptr;
  out->append(buffer, end);
}

void AppendJsonTime(const google::protobuf::Timestamp& time, std::string* out) {
  const std::chrono::sys_seconds at{std::chrono::seconds(time.seconds())};
  const auto day = std::chrono::floor<std::chrono::days>(at);
  const std::chrono::year_month_day date(day);
  const auto second = static_cast<uint32_t>((at - day).count());

  char buffer[40];
  char* end = buffer;
  *end++ = '"';
  end = PutDigits<4>(static_cast<uint32_t>(static_cast<int>(date.year())), end);
  *end++ = '-';
  end = PutDigits<2>(static_cast<unsigned>(date.month()), end);
  *end++ = '-';
  end = PutDigits<2>(static_cast<unsigned>(date.day()), end);
  *end++ = 'T';
  end = PutDigits<2>(second / 3600, end);
  *end++ = ':';
  end = PutDigits<2>(second / 60 % 60, end);
  *end++ = ':';
  end = PutDigits<2>(second % 60, end);
  end = PutFraction(static_cast<uint32_t>(time.nanos()), end);
  *end++ = 'Z';
  *end++ = '"';
  out->append(buffer, end);
}

bool ValidJsonText(std::string_view text, size_t max_depth) {
  boost::json::parse_options options;
  options.max_depth = max_depth;
  boost::json::basic_parser<Discard> parser(options);
  boost::json::error_code error;
  const size_t used = parser.write_some(false, text.data(), text.size(), error);
  return !error && used == text.size();
}

std::string CleanUtf8(std::string_view text, size_t max_bytes) {
  std::string clean;
  clean.reserve(text.size() < max_bytes ? text.size() : max_bytes);
  while (!text.empty()) {
    const size_t bytes = CharacterBytes(text);
    const size_t take = bytes == 0 ? 1 : bytes;
    if (clean.size() + take > max_bytes) break;
    if (bytes == 0) {
      clean.push_back('?');
    } else {
      clean.append(text.substr(0, bytes));
    }
    text.remove_prefix(take);
  }
  return clean;
}

}  // namespace clarion
