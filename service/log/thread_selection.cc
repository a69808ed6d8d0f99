#include "service/log/thread_selection.h"

#include <algorithm>
#include <optional>
#include <queue>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "proto/base/text.h"

namespace clarion::log {
namespace {

// Most recently active first; the order of pages.
struct Listed {
  int64_t last_append = 0;
  std::string thread;
  friend bool operator<(const Listed& a, const Listed& b) {
    return a.last_append != b.last_append ? a.last_append > b.last_append : a.thread < b.thread;
  }
};

absl::StatusOr<std::optional<Listed>> ParseToken(std::string_view token) {
  if (token.empty()) return std::nullopt;
  Listed after;
  const size_t colon = token.find(':');
  if (colon == std::string_view::npos ||
      !absl::SimpleAtoi(ToAbsl(token.substr(0, colon)), &after.last_append)) {
    return absl::InvalidArgumentError("is none that this service gave");
  }
  after.thread = token.substr(colon + 1);
  return after;
}

std::string TokenAfter(const Listed& last) {
  return absl::StrCat(last.last_append, ":", last.thread);
}

// Where a page over everybody's threads ended: a key, with a space, which no id holds, for the byte
// that text cannot carry.
absl::StatusOr<std::string> KeyOfToken(std::string_view token) {
  std::string key(token);
  const size_t space = key.find(' ');
  if (space != std::string::npos) {
    key[space] = '\0';
  } else if (!key.empty()) {
    return absl::InvalidArgumentError("is none that this service gave");
  }
  return key;
}

std::string TokenOfKey(std::string key) {
  key[key.find('\0')] = ' ';
  return key;
}

}  // namespace

absl::StatusOr<ThreadSelection> SelectAny(Store& store, std::string_view page_token,
                                          size_t page_size) {
  const absl::StatusOr<std::string> after = KeyOfToken(page_token);
  if (!after.ok()) return after.status();
  ThreadSelection selection;
  std::string last_key;
  absl::Status status =
      store.Scan(Family::kOwners, "", *after, nullptr,
                 [&](std::string_view key, std::string_view) -> absl::StatusOr<bool> {
                   if (key == *after) return true;
                   if (selection.threads.size() == page_size) {
                     selection.next_page_token = TokenOfKey(last_key);
                     return false;
                   }
                   selection.threads.push_back(ThreadOfOwnerKey(key));
                   last_key = key;
                   return true;
                 });
  if (!status.ok()) return status;
  return selection;
}

absl::StatusOr<ThreadSelection> SelectRecent(Store& store, const UserId& owner,
                                             std::string_view page_token, size_t page_size,
                                             const LastAppendOf& last_append_of) {
  const absl::StatusOr<std::optional<Listed>> after = ParseToken(page_token);
  if (!after.ok()) return after.status();
  // The first page_size + 1 in order, the last of them on top.
  std::priority_queue<Listed> first;
  const std::string prefix = OwnerPrefix(owner);
  absl::Status status =
      store.Scan(Family::kOwners, prefix, prefix, nullptr,
                 [&](std::string_view key, std::string_view) -> absl::StatusOr<bool> {
                   const ThreadId thread = ThreadOfOwnerKey(key);
                   const absl::StatusOr<WallTime> last_append = last_append_of(thread);
                   if (!last_append.ok()) return last_append.status();
                   Listed listed{last_append->time_since_epoch().count(), thread.str()};
                   if (*after && !(**after < listed)) return true;
                   first.push(std::move(listed));
                   if (first.size() > page_size + 1) first.pop();
                   return true;
                 });
  if (!status.ok()) return status;
  const bool more = first.size() > page_size;
  if (more) first.pop();
  ThreadSelection selection;
  if (more) selection.next_page_token = TokenAfter(first.top());
  selection.threads.resize(first.size());
  for (size_t i = first.size(); i-- > 0; first.pop()) {
    selection.threads[i] = ThreadId(first.top().thread);
  }
  return selection;
}

}  // namespace clarion::log
