// The members of a JSON object that a page sent, by name and kind.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include "boost/json/object.hpp"
#include "boost/json/value.hpp"

namespace clarion::gateway {

// The members of one object, taken one after the other by name; what is left over is unknown.
// Keeps the first problem it meets.
class JsonReader {
 public:
  JsonReader(boost::json::object& members, std::string path)
      : members_(members), path_(std::move(path)) {}

  // Null when absent (or null).
  boost::json::value* Take(std::string_view key) {
    boost::json::value* value = members_.if_contains({key.data(), key.size()});
    if (value == nullptr) return nullptr;
    ++taken_;
    return value->is_null() ? nullptr : value;
  }

  template <class Set>
  void Text(std::string_view key, Set set) {
    boost::json::value* value = Take(key);
    if (value == nullptr) return;
    const boost::json::string* text = value->if_string();
    if (text == nullptr) return Wrong(key, "must be a string");
    set(std::string(text->data(), text->size()));
  }

  template <class Set>
  void Number(std::string_view key, uint64_t max, Set set) {
    boost::json::value* value = Take(key);
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
    boost::json::value* value = Take(key);
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
        is_known |= member.key() == boost::json::string_view(name.data(), name.size());
      if (!is_known) {
        Wrong(std::string_view(member.key().data(), member.key().size()).substr(0, 64),
              "is unknown");
        break;
      }
    }
    return problem_;
  }

 private:
  boost::json::object& members_;
  std::string path_;
  size_t taken_ = 0;
  std::string problem_;
};

}  // namespace clarion::gateway
