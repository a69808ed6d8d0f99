// What RocksDB says and does by itself: its log lines come to ours, and it does not try to mend
// itself after a failed write.
//
// A log file of its own would stand on the disk whose failures it is to report: Debian's build
// aborts the process at the second line that such a file cannot take. And a database that clears
// its own error would go on from what nobody has looked at; opening it anew is ours to do
// (commit_loop.h).
#pragma once

#include "rocksdb/options.h"

namespace clarion::log {

void RouteReports(rocksdb::DBOptions& options);

}  // namespace clarion::log
