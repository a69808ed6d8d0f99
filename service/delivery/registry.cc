#include "service/delivery/registry.h"

#include <algorithm>

#include "proto/contract/timestamp.h"

namespace clarion::delivery {
namespace {

constexpr int kMaxListedThreads = 1024;  // event_service.proto

}  // namespace

v1::Connection Describe(const Connection& connection) {
  v1::Connection out;
  out.set_connection_id(connection.id.str());
  out.set_user_id(connection.user.str());
  out.set_gateway_id(connection.gateway.str());
  out.set_transport(connection.transport);
  out.set_state(connection.state);
  out.set_reason(connection.reason);
  *out.mutable_connected_at() = connection.connected_at;
  *out.mutable_changed_at() = ToTimestamp(connection.changed_at);
  out.set_client(connection.client);
  for (const ThreadId& thread : connection.followed) {
    if (out.thread_ids_size() == kMaxListedThreads) break;
    out.add_thread_ids(thread.str());
  }
  return out;
}

bool Follows(const Connection& connection, const ThreadId& thread) {
  return connection.followed.contains(thread);
}

Connection* Registry::Find(const ConnectionId& id) {
  const auto found = connections_.find(id);
  return found == connections_.end() ? nullptr : found->second.get();
}

const User* Registry::FindUser(const UserId& user) const {
  const auto found = users_.find(user);
  return found == users_.end() ? nullptr : &found->second;
}

uint32_t Registry::OpenConnections(const UserId& user) const {
  const User* record = FindUser(user);
  return record == nullptr ? 0 : record->open;
}

Connection* Registry::Open(Attached* attached, const v1::ConnectionOpened& opened) {
  Forget();
  const UserId user_id(opened.user_id());
  const ConnectionId id(opened.connection_id());
  if (OpenConnections(user_id) >= limits_.connections_per_user && !IsCanary(user_id))
    return nullptr;

  Connection* connection = Find(id);
  if (connection != nullptr && connection->user != user_id) {
    Erase(connection);  // the id was made anew; what is remembered is about somebody else
    connection = nullptr;
  }
  if (connection == nullptr) {
    auto& slot = connections_[id];
    slot = std::make_unique<Connection>();
    connection = slot.get();
    connection->id = id;
    connection->user = user_id;
    connection->sequence = ++last_sequence_;
    users_[user_id].connections.emplace(connection->sequence, connection);
  } else {
    gone_.erase(connection->gone_sequence);
  }
  connection->gateway = attached->gateway;
  connection->transport = opened.transport();
  connection->client = opened.client().substr(0, 256);
  connection->connected_at = opened.connected_at();
  connection->state = v1::CONNECTION_STATE_CONNECTED;
  connection->reason.clear();
  connection->changed_at = scheduler_->wall_now();
  connection->attached = attached;
  connection->followed.clear();
  const bool polls = opened.transport() == v1::TRANSPORT_POLLING;
  connection->polling = polls ? std::make_unique<Polling>() : nullptr;
  attached->connections.emplace(id, connection);
  ++users_[user_id].open;
  return connection;
}

void Registry::Move(Connection& connection, Attached* to) {
  connection.attached->connections.erase(connection.id);
  connection.attached = to;
  to->connections.emplace(connection.id, &connection);
}

void Registry::Close(Connection& connection, v1::ConnectionState state, std::string_view reason) {
  connection.attached->connections.erase(connection.id);
  connection.attached = nullptr;
  connection.all.reset();
  connection.polling.reset();
  connection.state = state;
  connection.reason = std::string(reason.substr(0, 256));
  connection.changed_at = scheduler_->wall_now();
  connection.gone_at = scheduler_->now();
  connection.gone_sequence = ++last_gone_;
  gone_.emplace(connection.gone_sequence, &connection);
  --users_[connection.user].open;
}

std::vector<Connection*> Registry::OpenOf(const UserId& user) const {
  std::vector<Connection*> open;
  const User* record = FindUser(user);
  if (record == nullptr) return open;
  for (const auto& [sequence, connection] : record->connections) {
    if (connection->open()) open.push_back(connection);
  }
  return open;
}

void Registry::ForEach(const std::function<void(const Connection&)>& visit) const {
  for (const auto& [id, connection] : connections_) visit(*connection);
}

// Drops what was remembered long enough.
void Registry::Forget() {
  const Scheduler::Steady oldest = scheduler_->now() - limits_.memory;
  while (!gone_.empty()) {
    Connection* connection = gone_.begin()->second;
    if (gone_.size() <= limits_.memory_entries && connection->gone_at >= oldest) return;
    Erase(connection);
  }
}

void Registry::Erase(Connection* connection) {
  gone_.erase(connection->gone_sequence);
  const auto user = users_.find(connection->user);
  user->second.connections.erase(connection->sequence);
  if (user->second.connections.empty() && user->second.claims == 0) users_.erase(user);
  connections_.erase(ConnectionId(connection->id));
}

}  // namespace clarion::delivery
