// Recomputes the ledger from the events that a service keeps, and compares it with what it says.
//
// A service that is at work audits clean: what is said of a thread is compared within one state of
// it; events that are read while it moves may only go at the floor and come at the end; and the
// sums over all threads are compared only if nothing moved while they were added up.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "clarion/v1/event_service.pb.h"
#include "service/ctl/client.h"

namespace clarion::ctl {

// Something that does not add up.
struct Difference {
  std::string thread;  // empty: of all threads
  std::string user;
  std::string what;
};

enum class Totals : uint8_t {
  kAgree,
  kDiffer,
  kMoving,  // events came or went each time they were added up
};

struct AuditReport {
  uint64_t threads = 0;
  uint64_t events = 0;  // kept, and read
  uint64_t differences = 0;
  Totals totals = Totals::kMoving;
  v1::GetLedgerResponse ledger;  // the last that was read
};

class Audit {
 public:
  using Report = std::function<void(const Difference&)>;
  // `client` outlives it. `attempts`: how often the threads are added up, at least 1.
  Audit(Client* client, int attempts, Report report)
      : client_(*client), attempts_(attempts), report_(std::move(report)) {}

  // The error: it could not be found out.
  absl::StatusOr<AuditReport> Run();

 private:
  using EachThread = std::function<absl::Status(const v1::ThreadSummary&)>;
  absl::Status ForEachThread(const EachThread& visit);
  // What a thread says of itself.
  void CheckSummary(const v1::ThreadSummary& thread);
  // Reads what is kept of it.
  absl::Status CheckEvents(const v1::ThreadSummary& thread);
  absl::Status CheckTotals();
  // The sums of all threads beside what the service says; nothing if it moved.
  void Compare(const v1::LedgerCounts& sum);
  void Differ(const v1::ThreadSummary& thread, std::string what);

  Client& client_;
  const int attempts_;
  const Report report_;
  AuditReport result_;
};

}  // namespace clarion::ctl
