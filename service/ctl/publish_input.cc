#include "service/ctl/publish_input.h"

#include <string_view>
#include <utility>

namespace clarion::ctl {
namespace {

constexpr size_t kMaxWaitingLines = 4096;
constexpr size_t kMaxWaitingBytes = 16 * 1024 * 1024;
// What is handed to the publisher at once.
constexpr size_t kMaxTakenLines = 1024;
constexpr size_t kMaxTakenBytes = 1024 * 1024;

// False: there is none.
bool ReadLine(std::istream& in, std::string* line) {
  line->clear();
  bool any = false;
  for (char c; in.get(c) && c != '\n'; any = true) {
    if (line->size() <= kMaxLineBytes) line->push_back(c);
  }
  return any || in.good();
}

}  // namespace

bool LineQueue::Full() const {
  return lines_.size() >= kMaxWaitingLines || bytes_ >= kMaxWaitingBytes;
}

void LineQueue::Push(Line line) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !Full() || closed_; });
  if (closed_) return;
  bytes_ += line.text.size();
  lines_.push_back(std::move(line));
  changed_.notify_all();
}

void LineQueue::Close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  changed_.notify_all();
}

std::vector<Line> LineQueue::Pop() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !lines_.empty() || closed_; });
  std::vector<Line> taken;
  size_t bytes = 0;
  while (!lines_.empty() && taken.size() < kMaxTakenLines && bytes < kMaxTakenBytes) {
    bytes += lines_.front().text.size();
    taken.push_back(std::move(lines_.front()));
    lines_.pop_front();
  }
  bytes_ -= bytes;
  changed_.notify_all();
  return taken;
}

void ReadLines(std::istream& in, LineQueue& queue) {
  Line line;
  while (ReadLine(in, &line.text)) {
    ++line.number;
    if (line.text.find_first_not_of(" \t\r") != std::string::npos) queue.Push(line);
  }
  queue.Close();
}

}  // namespace clarion::ctl
