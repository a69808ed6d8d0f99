#include "gateway/connection/tickets.h"

#include <utility>

namespace clarion::gateway {

void Tickets::Add(std::string ticket, Time expires_at, Time now) {
  MutexLock lock(mutex_);
  std::erase_if(tickets_, [now](const auto& entry) { return entry.second <= now; });
  if (!ticket.empty()) tickets_.insert_or_assign(std::move(ticket), expires_at);
}

std::optional<Tickets::Time> Tickets::Redeem(std::string_view ticket, Time now) {
  MutexLock lock(mutex_);
  const auto found = tickets_.find(ticket);
  if (found == tickets_.end()) return std::nullopt;
  const Time expires_at = found->second;
  tickets_.erase(found);
  if (expires_at <= now) return std::nullopt;
  return expires_at;
}

void Tickets::Remove(std::string_view ticket) {
  MutexLock lock(mutex_);
  if (const auto found = tickets_.find(ticket); found != tickets_.end()) tickets_.erase(found);
}

}  // namespace clarion::gateway
