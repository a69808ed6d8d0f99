// The lines that `clarionctl publish` reads, from a reader that may be slow to a publisher that may
// be slow.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <istream>
#include <mutex>
#include <string>
#include <vector>

namespace clarion::ctl {

// No event of a longer line fits into a message of 4 MiB: JSON takes six bytes for one at most.
inline constexpr size_t kMaxLineBytes = 32 * 1024 * 1024;

struct Line {
  uint64_t number = 0;  // from 1; 0: made from flags
  std::string text;     // longer than kMaxLineBytes: the rest is cut off
};

// Bounded in lines and bytes: a full queue makes the reader wait. Thread-safe.
class LineQueue {
 public:
  void Push(Line line);
  void Close();
  // Waits for at least one; empty: there will be none.
  std::vector<Line> Pop();

 private:
  bool Full() const;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Line> lines_;
  size_t bytes_ = 0;
  bool closed_ = false;
};

// Until the end, which may come without a line end; empty lines count, and are passed over. Closes
// the queue.
void ReadLines(std::istream& in, LineQueue& queue);

}  // namespace clarion::ctl
