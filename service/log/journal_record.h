// One commit in the journal, as bytes (FORMAT.md, "journal").
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "service/log/effects.h"

namespace clarion::log {

class ByteWriter;
class ByteReader;

// A run's record has the same bytes wherever it is stored.
void WriteRun(const RunRecord& run, ByteWriter& out);
RunRecord ReadRun(ByteReader& in);

class JournalRecordWriter {
 public:
  void Begin();
  void Add(const ThreadId& thread, const Effects& effects);
  // Valid until the next Begin.
  const std::string& bytes() const { return bytes_; }
  bool empty() const { return sections_ == 0; }

 private:
  std::string bytes_;
  size_t sections_ = 0;
};

// Calls `section` for each thread of the commit, in order. DATA_LOSS if the bytes are none that
// this version wrote, or the first error of `section`.
absl::Status ReadJournalRecord(
    std::string_view bytes,
    const std::function<absl::Status(const ThreadId& thread, Effects& effects)>& section);

}  // namespace clarion::log
