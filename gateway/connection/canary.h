// Canaries: real WebSockets that the gateway opens to itself, to see that events come through.
//
// The service asks for one (OpenCanary); it connects to the gateway's own listening address as any
// page would, with a one-time ticket for a token, follows the check's thread and reports what it
// sees.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "boost/asio/io_context.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "clarion/v1/gateway_service.pb.h"
#include "gateway/connection/tickets.h"
#include "gateway/timer_wheel.h"

namespace clarion::gateway {

// Outlives the loop's canaries; on the loop's thread only.
struct CanaryContext {
  boost::asio::io_context& loop;
  TimerWheel& wheel;
  Tickets& tickets;
  // The gateway's own listening address, reachable from here.
  boost::asio::ip::tcp::endpoint address;
  std::function<void(v1::CanaryReport)> report;
};

// Reports CONNECT with why, or SOCKET once the subscription runs and then ARRIVED for each type;
// ends when all types have come, or at the check's end.
void StartCanary(CanaryContext& context, const v1::OpenCanary& check);

}  // namespace clarion::gateway
