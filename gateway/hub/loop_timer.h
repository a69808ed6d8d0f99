// HubOptions::after for a loop: a timer for each call, on boost::asio.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <utility>

#include "boost/asio/io_context.hpp"
#include "boost/asio/steady_timer.hpp"

namespace clarion::gateway {

// `loop` outlives the function. What is waiting when the loop ends is destroyed, not called.
inline std::function<void(std::chrono::milliseconds, std::function<void()>)> MakeLoopTimer(
    boost::asio::io_context& loop) {
  return [&loop](std::chrono::milliseconds delay, std::function<void()> task) {
    auto timer = std::make_shared<boost::asio::steady_timer>(loop, delay);
    timer->async_wait([timer, task = std::move(task)](const boost::system::error_code& error) {
      if (!error) task();
    });
  };
}

}  // namespace clarion::gateway
