// What a peer can do beyond the version of the link, as Hello and Welcome say it.
#pragma once

#include <string_view>

namespace clarion::link {

// Of a service. It heeds ReadPageRequest.user_id, before_offset and last_runs: one that does not
// would give the page to anybody.
inline constexpr std::string_view kUserPages = "user_pages";
// Of a service. Connections rest (ConnectionClosed.lease).
inline constexpr std::string_view kResting = "resting";

// Of a service. AllSubscribed is said again once each thread there is has been bound.
inline constexpr std::string_view kAllListed = "all_listed";

}  // namespace clarion::link
