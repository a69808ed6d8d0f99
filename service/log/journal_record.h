// One commit in the journal, as bytes (FORMAT.md, "journal").
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "service/log/effects.h"

namespace clarion::log {

class ByteWriter;
class ByteReader;

void WriteLedger(const Ledger& ledger, ByteWriter& out);
Ledger ReadLedger(ByteReader& in);
// An expired range has the same bytes wherever it is stored.
void WriteExpired(const std::vector<ExpiredRange>& ranges, ByteWriter& out);
std::vector<ExpiredRange> ReadExpired(ByteReader& in);

// A run's record has the same bytes wherever it is stored.
void WriteRun(const RunRecord& run, ByteWriter& out);
RunRecord ReadRun(ByteReader& in);

class JournalRecordWriter {
 public:
  // `ledger`: as it is after the commit.
  void Begin(const Ledger& ledger);
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
    std::string_view bytes, Ledger& ledger,
    const std::function<absl::Status(const ThreadId& thread, Effects& effects)>& section);

}  // namespace clarion::log
