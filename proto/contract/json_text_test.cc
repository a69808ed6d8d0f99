#include "proto/contract/json_text.h"

#include <cstdlib>
#include <limits>
#include <random>
#include <string>

#include "boost/json/parse.hpp"
#include "boost/json/serialize.hpp"
#include "gtest/gtest.h"
#include "proto/contract/json_scan.h"

namespace clarion {
namespace {

std::string Quoted(std::string_view text) {
  std::string out;
  AppendJsonString(text, &out);
  return out;
}

std::string Time(int64_t seconds, int32_t nanos) {
  google::protobuf::Timestamp time;
  time.set_seconds(seconds);
  time.set_nanos(nanos);
  std::string out;
  AppendJsonTime(time, &out);
  return out;
}

template <class T>
std::string Number(T value) {
  std::string out;
  AppendJsonNumber(value, &out);
  return out;
}

std::string Nested(size_t depth) {
  return std::string(depth, '[') + std::string(depth, ']');
}

TEST(JsonString, EscapesWhatJsonRequiresAndNothingElse) {
  EXPECT_EQ(Quoted(""), "\"\"");
  EXPECT_EQ(Quoted("a\"b\\c/d"), R"("a\"b\\c/d")");
  EXPECT_EQ(Quoted("\b\f\n\r\t"), R"("\b\f\n\r\t")");
  EXPECT_EQ(Quoted(std::string_view("\0\x1f\x7f", 3)), "\"\\u0000\\u001f\x7f\"");
  EXPECT_EQ(Quoted("grün \U0001F600"), "\"grün \U0001F600\"");
}

TEST(JsonString, ReadsBackWhereverTheEscapeStands) {
  for (int c = 0; c < 0x80; ++c) {
    for (size_t length = 1; length <= 20; ++length) {
      for (size_t at = 0; at < length; ++at) {
        std::string text(length, 'x');
        text[at] = static_cast<char>(c);
        const std::string quoted = Quoted(text);
        ASSERT_EQ(boost::json::parse(quoted).as_string(), text) << quoted;
        ASSERT_EQ(DecodeJsonString(quoted), text);
      }
    }
  }
}

TEST(JsonNumber, IsExact) {
  EXPECT_EQ(Number(uint64_t{0}), "0");
  EXPECT_EQ(Number((uint64_t{1} << 53) - 1), "9007199254740991");
  EXPECT_EQ(Number(std::numeric_limits<uint64_t>::max()), "18446744073709551615");
  EXPECT_EQ(Number(0.1), "0.1");
  EXPECT_EQ(Number(3.0), "3");
  for (const double value : {1e300, 5e-324, 1.0 / 3, 123456789.125}) {
    EXPECT_EQ(std::strtod(Number(value).c_str(), nullptr), value);
    EXPECT_TRUE(ValidJsonText(Number(value), 1));
  }
}

TEST(JsonTime, IsRfc3339WithAsManyDigitsAsNeeded) {
  EXPECT_EQ(Time(0, 0), R"("1970-01-01T00:00:00.000Z")");
  EXPECT_EQ(Time(951'782'400, 7'000'000), R"("2000-02-29T00:00:00.007Z")");
  EXPECT_EQ(Time(1'795'184'569, 123'456'000), R"("2026-11-20T14:22:49.123456Z")");
  EXPECT_EQ(Time(253'402'300'799, 999'999'999), R"("9999-12-31T23:59:59.999999999Z")");
}

TEST(JsonText, IsOneCompleteValue) {
  for (const char* text : {"{}", "[]", "null", "true", "-0", "1e5", "\"\"", " {\"a\" : [1,2] } \n",
                           R"("\ud83d\ude00")", "12345678901234567890123", "\"gr\xc3\xbcn\""}) {
    EXPECT_TRUE(ValidJsonText(text, 8)) << text;
  }
  for (const char* text : {"",
                           " ",
                           "{",
                           "}",
                           "[1,]",
                           "{\"a\":}",
                           "{a:1}",
                           "'a'",
                           "nul",
                           "1 2",
                           "{}x",
                           "01",
                           "+1",
                           ".5",
                           "1.",
                           "NaN",
                           "Infinity",
                           "\"\n\"",
                           "\"\\x\"",
                           "// c\n1",
                           "/* c */ 1",
                           "\xef\xbb\xbf{}",
                           R"("\ud83d")",
                           R"("\ude00")",
                           "\"\xff\"",
                           "\"\xed\xa0\x80\"",
                           "\"\xc0\xaf\""}) {
    EXPECT_FALSE(ValidJsonText(text, 8)) << text;
  }
  EXPECT_FALSE(ValidJsonText(std::string_view("1\0", 2), 8));
}

TEST(JsonText, MayBeAsDeepAsTheBoundAndNoDeeper) {
  EXPECT_TRUE(ValidJsonText("1", 0));
  EXPECT_TRUE(ValidJsonText(Nested(kMaxJsonDepth), kMaxJsonDepth));
  EXPECT_FALSE(ValidJsonText(Nested(kMaxJsonDepth + 1), kMaxJsonDepth));
  EXPECT_FALSE(ValidJsonText(std::string(1'000'000, '['), kMaxJsonDepth));
}

TEST(JsonScanner, GivesEachMembersOwnBytes) {
  const std::string_view text =
      R"( { "a" : 12345678901234567890 , "b\n":{"x":"}\"]"} ,"c":[ ],"d":null} )";
  ASSERT_TRUE(ValidJsonText(text, 8));
  JsonScanner scanner(text);
  std::string key;
  std::string_view value;
  ASSERT_TRUE(scanner.NextMember(&key, &value));
  EXPECT_EQ(key, "a");
  EXPECT_EQ(value, "12345678901234567890");
  ASSERT_TRUE(scanner.NextMember(&key, &value));
  EXPECT_EQ(key, "b\n");
  EXPECT_EQ(value, R"({"x":"}\"]"})");
  ASSERT_TRUE(scanner.NextMember(&key, &value));
  EXPECT_EQ(value, "[ ]");
  ASSERT_TRUE(scanner.NextMember(&key, &value));
  EXPECT_EQ(value, "null");
  EXPECT_FALSE(scanner.NextMember(&key, &value));
}

TEST(JsonScanner, WalksArraysAndEmptyOnes) {
  std::string_view value;
  JsonScanner empty("[ ]");
  EXPECT_FALSE(empty.NextElement(&value));
  JsonScanner scanner("[1 ,\"a,]\",[2,3]]");
  std::string elements;
  while (scanner.NextElement(&value)) elements.append(value).append(";");
  EXPECT_EQ(elements, "1;\"a,]\";[2,3];");
}

// A random value as a tree, and text for it with random space.
class RandomJson {
 public:
  explicit RandomJson(uint32_t seed) : random_(seed) {}

  std::string Value(int depth) {
    switch (random_() % (depth > 0 ? 7 : 5)) {
      case 0:
        return "null";
      case 1:
        return random_() % 2 ? "true" : "false";
      case 2:
        return std::to_string(static_cast<int32_t>(random_()));
      case 3:
        return Number(static_cast<double>(random_()) / 7);
      case 4:
        return Quoted(Text());
      case 5: {
        std::string array = "[";
        for (size_t i = 0, n = random_() % 4; i < n; ++i) {
          array += (i ? "," : "") + Space() + Value(depth - 1) + Space();
        }
        return array + Space() + "]";
      }
      default: {
        std::string object = "{";
        for (size_t i = 0, n = random_() % 4; i < n; ++i) {
          object += (i ? "," : "") + Space() + Quoted(std::to_string(i) + Text()) + Space() + ":" +
                    Space() + Value(depth - 1) + Space();
        }
        return object + Space() + "}";
      }
    }
  }

 private:
  std::string Space() { return std::string(random_() % 2, " \n\t\r"[random_() % 4]); }
  std::string Text() {
    std::string text;
    for (size_t i = 0, n = random_() % 12; i < n; ++i) {
      text += static_cast<char>(random_() % 3 ? 'a' + random_() % 26 : random_() % 0x80);
    }
    return text;
  }
  std::mt19937 random_;
};

// Puts together again what the scanner took apart.
std::string Rebuilt(std::string_view text) {
  if (text.front() == '{') {
    std::string out = "{";
    JsonScanner scanner(text);
    std::string key;
    for (std::string_view value; scanner.NextMember(&key, &value);) {
      out += (out.size() > 1 ? "," : "") + Quoted(key) + ":" + Rebuilt(value);
    }
    return out + "}";
  }
  if (text.front() == '[') {
    std::string out = "[";
    JsonScanner scanner(text);
    for (std::string_view value; scanner.NextElement(&value);) {
      out += (out.size() > 1 ? "," : "") + Rebuilt(value);
    }
    return out + "]";
  }
  return std::string(text);
}

TEST(JsonScanner, LosesNothingOfRandomValues) {
  for (uint32_t seed = 0; seed < 2000; ++seed) {
    const std::string text = RandomJson(seed).Value(5);
    ASSERT_TRUE(ValidJsonText(text, 5)) << text;
    ASSERT_EQ(boost::json::parse(Rebuilt(text)), boost::json::parse(text)) << text;
  }
}

TEST(CleanUtf8, KeepsCharactersWholeAndReplacesTheRest) {
  EXPECT_EQ(CleanUtf8("grün \U0001F600"), "grün \U0001F600");
  EXPECT_EQ(CleanUtf8("ü\xc3"), "ü?");
  EXPECT_EQ(CleanUtf8("\xed\xa0\x80"), "???");       // a surrogate
  EXPECT_EQ(CleanUtf8("\xc0\xaf"), "??");            // overlong
  EXPECT_EQ(CleanUtf8("\xf4\x90\x80\x80"), "????");  // beyond U+10FFFF
  EXPECT_EQ(CleanUtf8("aü", 2), "a");
  EXPECT_EQ(CleanUtf8("aü", 3), "aü");
  EXPECT_EQ(CleanUtf8("abc", 0), "");
}

}  // namespace
}  // namespace clarion
