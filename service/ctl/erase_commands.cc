// delete-thread, delete-user: erasure.
#include <chrono>
#include <iostream>
#include <memory>
#include <string>

#include "proto/base/text.h"
#include "service/ctl/client.h"
#include "service/ctl/output.h"

namespace clarion::ctl {
namespace {

constexpr char kThreadExamples[] =
    "Examples:\n"
    "  clarionctl delete-thread t1 --user ada --yes\n"
    "What it held is gone for good; its id is refused for a while (--tombstone-days of the "
    "service).";
constexpr char kUserExamples[] =
    "Examples:\n"
    "  clarionctl delete-user ada --yes\n"
    "Deletes all threads of the user. One that was interrupted goes on when it is said again.";
// One call deletes up to a thousand threads.
constexpr std::chrono::seconds kLonger{60};

struct EraseOptions {
  std::string thread;
  std::string user;
  bool yes = false;
};

int Refuse(const std::string& command) {
  return UsageError(command, "this cannot be undone: say --yes");
}

int DeleteThread(const Globals& globals, const EraseOptions& options) {
  if (!options.yes) return Refuse("delete-thread");
  auto client = Client::Make(globals);
  if (!client.ok()) return ReportError(client.status(), globals);
  v1::DeleteThreadRequest request;
  request.set_thread_id(options.thread);
  request.set_user_id(options.user);
  auto deleted = client->Call(&Client::Stub::DeleteThread, request);
  if (!deleted.ok()) return ReportError(deleted.status(), globals);
  if (globals.json) {
    std::cout << ToJson(*deleted) << "\n";
  } else if (deleted->already_deleted()) {
    std::cout << "it was deleted before\n";
  } else {
    std::cout << "deleted: " << deleted->events() << " events, " << deleted->expired()
              << " of them not acknowledged\n";
  }
  return kOk;
}

int DeleteUser(const Globals& globals, const EraseOptions& options) {
  if (!options.yes) return Refuse("delete-user");
  auto client = Client::Make(globals);
  if (!client.ok()) return ReportError(client.status(), globals);
  v1::DeleteUserRequest request;
  request.set_user_id(options.user);
  v1::DeleteUserResponse sum;
  while (!sum.complete()) {
    auto deleted = client->Call(&Client::Stub::DeleteUser, request, kLonger);
    if (!deleted.ok()) {
      std::cerr << "deleted so far: " << sum.threads() << " threads\n";
      return ReportError(deleted.status(), globals);
    }
    sum.set_threads(sum.threads() + deleted->threads());
    sum.set_events(sum.events() + deleted->events());
    sum.set_expired(sum.expired() + deleted->expired());
    sum.set_complete(deleted->complete());
  }
  if (globals.json) {
    std::cout << ToJson(sum) << "\n";
  } else {
    std::cout << "deleted: " << sum.threads() << " threads, " << sum.events() << " events, "
              << sum.expired() << " of them not acknowledged\n";
  }
  return kOk;
}

}  // namespace

void AddDeleteThreadCommand(Program& program) {
  auto options = std::make_shared<EraseOptions>();
  CLI::App& app =
      program.Add({"delete-thread", "Delete a thread for good.", kThreadExamples},
                  [&program, options] { return DeleteThread(program.globals(), *options); });
  app.add_option("THREAD", options->thread, "The thread")->required();
  app.add_option("--user", options->user, "Its user")->required();
  app.add_flag("--yes", options->yes, "It is meant");
}

void AddDeleteUserCommand(Program& program) {
  auto options = std::make_shared<EraseOptions>();
  CLI::App& app =
      program.Add({"delete-user", "Delete all threads of a user for good.", kUserExamples},
                  [&program, options] { return DeleteUser(program.globals(), *options); });
  app.add_option("USER", options->user, "The user")->required();
  app.add_flag("--yes", options->yes, "It is meant");
}

}  // namespace clarion::ctl
