// Sockets and coroutines of a loop: their executor is the io_context itself, without type erasure,
// which takes less memory and no virtual call.
#pragma once

#include "boost/asio/as_tuple.hpp"
#include "boost/asio/awaitable.hpp"
#include "boost/asio/basic_stream_socket.hpp"
#include "boost/asio/io_context.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/use_awaitable.hpp"

namespace clarion::gateway {

using LoopExecutor = boost::asio::io_context::executor_type;
using Socket = boost::asio::basic_stream_socket<boost::asio::ip::tcp, LoopExecutor>;
template <class T>
using Awaitable = boost::asio::awaitable<T, LoopExecutor>;
// co_await gives [error, result]; nothing throws.
inline constexpr auto kUseTuple =
    boost::asio::as_tuple_t<boost::asio::use_awaitable_t<LoopExecutor>>();

}  // namespace clarion::gateway
