// undelivered, audit: what became of all that was accepted, and whether it adds up.
#include <iostream>
#include <memory>

#include "nlohmann/json.hpp"
#include "proto/base/text.h"
#include "service/ctl/audit.h"
#include "service/ctl/client.h"
#include "service/ctl/output.h"
#include "service/ctl/requests.h"

namespace clarion::ctl {
namespace {

constexpr char kUndeliveredExamples[] =
    "Examples:\n"
    "  clarionctl undelivered                      everybody's\n"
    "  clarionctl undelivered --user ada --state expired\n"
    "  clarionctl undelivered --thread t1 --json";
constexpr char kAuditExamples[] =
    "Examples:\n"
    "  clarionctl audit\n"
    "  clarionctl audit --json | jq .what\n"
    "Reads every event that is kept and recomputes what was acknowledged, is pending or expired: "
    "of\n"
    "each thread, and over all of them. A service at work audits clean; its totals are compared "
    "if\n"
    "they stand still for a moment, otherwise they are said to be moving.\n"
    "Exit codes: 0 no difference; 1 differences, each printed; 2 it could not be found out.";
// Of `audit` alone.
constexpr int kCannot = 2;

// ---- undelivered ----

void AddRow(const v1::UndeliveredRange& range, Table* table) {
  const bool expired = range.state() == v1::UNDELIVERED_STATE_EXPIRED;
  table->Add({range.thread_id(), range.user_id(),
              EnumText(*v1::UndeliveredState_descriptor(), range.state()), range.epoch(),
              std::to_string(range.from_offset()), std::to_string(range.to_offset()),
              std::to_string(range.count()),
              expired ? EnumText(*v1::MissedReason_descriptor(), range.reason()) : "-",
              expired ? TimeText(range.has_expired_at(), range.expired_at())
                      : TimeText(range.has_oldest_accepted_at(), range.oldest_accepted_at())});
}

int ListUndelivered(const Globals& globals, const UndeliveredOptions& options) {
  auto request = UndeliveredRequest(options);
  if (!request.ok()) return UsageError("undelivered", std::string(request.status().message()));
  auto client = Client::Make(globals);
  if (!client.ok()) return ReportError(client.status(), globals);
  Table table({"THREAD", "USER", "STATE", "EPOCH", "FROM", "TO", "EVENTS", "REASON", "SINCE"});
  uint64_t left = options.limit;
  do {
    auto page = client->Call(&Client::Stub::ListUndelivered, *request);
    if (!page.ok()) return ReportError(page.status(), globals);
    for (const v1::UndeliveredRange& range : page->ranges()) {
      if (options.limit > 0 && left-- == 0) {
        if (!globals.json) table.Print(std::cout);
        return kOk;
      }
      if (globals.json) {
        std::cout << ToJson(range) << "\n";
      } else {
        AddRow(range, &table);
      }
    }
    request->set_page_token(page->next_page_token());
  } while (!request->page_token().empty());
  if (!globals.json) table.Print(std::cout);
  return kOk;
}

// ---- audit ----

std::string_view TextOf(Totals totals) {
  switch (totals) {
    case Totals::kAgree:
      return "agree";
    case Totals::kDiffer:
      return "differ";
    case Totals::kMoving:
      break;
  }
  return "moving";
}

void PrintDifference(const Globals& globals, const Difference& difference) {
  if (globals.json) {
    const nlohmann::json line = {{"thread_id", Printable(difference.thread)},
                                 {"user_id", Printable(difference.user)},
                                 {"what", Printable(difference.what)}};
    std::cout << line.dump() << "\n";
    return;
  }
  const std::string of = difference.thread.empty()
                             ? "all threads"
                             : Concat("thread ", difference.thread, " of ", difference.user);
  std::cout << Printable(Concat(of, ": ", difference.what)) << "\n";
}

void PrintReport(const Globals& globals, const AuditReport& report) {
  const v1::LedgerCounts& total = report.ledger.total();
  if (globals.json) {
    const nlohmann::json line = {
        {"threads", report.threads},         {"events_kept", report.events},
        {"differences", report.differences}, {"totals", std::string(TextOf(report.totals))},
        {"accepted", total.accepted()},      {"acknowledged", total.acknowledged()},
        {"pending", total.pending()},        {"expired", total.expired()}};
    std::cout << line.dump() << "\n";
    return;
  }
  std::cout << Concat("differences: ", report.differences, "\nthreads: ", report.threads,
                      ", events kept: ", report.events, "\ntotals: ", TextOf(report.totals),
                      "; accepted ", total.accepted(), ", acknowledged ", total.acknowledged(),
                      ", pending ", total.pending(), ", expired ", total.expired(), "\n");
}

int RunAudit(const Globals& globals, int attempts) {
  auto client = Client::Make(globals);
  if (!client.ok()) {
    ReportError(client.status(), globals);
    return kCannot;
  }
  Audit audit(&*client, attempts,
              [&](const Difference& difference) { PrintDifference(globals, difference); });
  const absl::StatusOr<AuditReport> report = audit.Run();
  if (!report.ok()) {
    ReportError(report.status(), globals);
    return kCannot;
  }
  PrintReport(globals, *report);
  return report->differences == 0 ? kOk : kFailed;
}

}  // namespace

void AddUndeliveredCommand(Program& program) {
  auto options = std::make_shared<UndeliveredOptions>();
  CLI::App& app = program.Add(
      {"undelivered", "List what is pending or expired, by ranges.", kUndeliveredExamples},
      [&program, options] { return ListUndelivered(program.globals(), *options); });
  app.add_option("--user", options->user, "Of this user; otherwise everybody's");
  app.add_option("--thread", options->thread, "Of this thread");
  app.add_option("--state", options->state, "pending or expired; otherwise both");
  app.add_option("--limit", options->limit, "At most so many ranges; 0: all")
      ->capture_default_str();
}

void AddAuditCommand(Program& program) {
  auto attempts = std::make_shared<int>(5);
  CLI::App& app =
      program.Add({"audit", "Recompute the ledger from the log and compare.", kAuditExamples},
                  [&program, attempts] { return RunAudit(program.globals(), *attempts); });
  app.add_option("--attempts", *attempts, "How often totals that move are added up anew")
      ->check(CLI::Range(1, 1000).description(""))
      ->capture_default_str();
}

}  // namespace clarion::ctl
