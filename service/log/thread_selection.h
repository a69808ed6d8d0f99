// Which threads are on a page of ListThreads, and the token of the next one.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "service/log/log.h"
#include "service/log/store.h"

namespace clarion::log {

struct ThreadSelection {
  std::vector<ThreadId> threads;
  std::string next_page_token;  // empty: that was all
};

// INVALID_ARGUMENT: the token is none of these functions'. `page_size` is at least 1.

// Everybody's, as the database has them: a page costs no more than itself.
absl::StatusOr<ThreadSelection> SelectAny(Store& store, std::string_view page_token,
                                          size_t page_size);

// `owner`'s, most recently active first: a page looks at all threads of the owner.
using LastAppendOf = std::function<absl::StatusOr<WallTime>(const ThreadId& thread)>;
absl::StatusOr<ThreadSelection> SelectRecent(Store& store, const UserId& owner,
                                             std::string_view page_token, size_t page_size,
                                             const LastAppendOf& last_append_of);

}  // namespace clarion::log
