// Who is connected: the connections of every user, open ones and those that went a while ago.
//
// Not thread-safe: guarded by Core's lock. It changes nothing but records; what follows from a
// change is Core's.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "clarion/v1/event_service.pb.h"
#include "clarion/v1/gateway_service.pb.h"
#include "proto/base/scheduler.h"
#include "service/delivery/records.h"

namespace clarion::delivery {

struct User {
  // Open and remembered ones by order of opening.
  std::map<uint64_t, Connection*> connections;
  uint32_t open = 0;
  // Subscriptions to threads that are not the user's.
  size_t claims = 0;
};

struct RegistryLimits {
  size_t connections_per_user = 1000;
  std::chrono::seconds memory{300};
  size_t memory_entries = 10'000;
};

// The connection as backends see it.
v1::Connection Describe(const Connection& connection);

// A confirmed subscription now, or, for one that is gone, when it went.
bool Follows(const Connection& connection, const ThreadId& thread);

class Registry {
 public:
  Registry(RegistryLimits limits, Scheduler* scheduler) : limits_(limits), scheduler_(scheduler) {}

  Connection* Find(const ConnectionId& id);
  const Connection* Find(const ConnectionId& id) const {
    return const_cast<Registry*>(this)->Find(id);
  }
  // Null: none of the user's connections is known.
  const User* FindUser(const UserId& user) const;
  // Creates the record if need be; stays while the user has connections or claims.
  User& UserOf(const UserId& user) { return users_[user]; }
  uint32_t OpenConnections(const UserId& user) const;

  // Opens or restores. Null: the user holds as many as it may. Requires that the id is not open.
  Connection* Open(Attached* attached, const v1::ConnectionOpened& opened);
  // Between attachments, or to rest and back: nothing else changes.
  static void Move(Connection& connection, Attached* to);
  // Requires an open one without subscriptions; `connection.followed` says what it had.
  void Close(Connection& connection, v1::ConnectionState state, std::string_view reason);

  // In order of opening.
  std::vector<Connection*> OpenOf(const UserId& user) const;
  void ForEach(const std::function<void(const Connection&)>& visit) const;

  void Forget();

 private:
  void Erase(Connection* connection);

  const RegistryLimits limits_;
  Scheduler* const scheduler_;
  uint64_t last_sequence_ = 0;
  uint64_t last_gone_ = 0;
  absl::flat_hash_map<ConnectionId, std::unique_ptr<Connection>> connections_;
  absl::flat_hash_map<UserId, User> users_;
  // By order of going.
  std::map<uint64_t, Connection*> gone_;
};

}  // namespace clarion::delivery
