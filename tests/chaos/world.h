// A world of users, browsers and producers around Clarion, and everything that happens to it.
//
// It is judged by what publishers were answered, what browsers received, and what the log answers
// when it is read: never by Clarion's own counters.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "proto/contract/reason.h"
#include "tests/e2e/support/browser.h"
#include "tests/e2e/support/deployment.h"
#include "tests/e2e/support/producer.h"

namespace clarion::testing {

// On one thread.
class World {
 public:
  static constexpr int kUsers = 40;
  static constexpr int kThreadsOfUser = 3;
  static constexpr int kBrowsersOfUser = 5;

  explicit World(uint64_t seed);
  ~World();

  // One thing goes wrong, or several in a row; then some time passes.
  void Step();
  // Nothing goes wrong any more; everybody gets on until all is there. Then the judgement: every
  // view equals the log, and the log what publishers were answered.
  void SettleAndJudge();

  // What happened how often.
  std::string Summary() const;

 private:
  struct User {
    std::string name;
    std::vector<std::string> threads;
    std::vector<std::string> deleted;
    std::vector<size_t> browsers;
  };
  void AddUser(int number);
  std::string ShortToken(const std::string& user);

  void LetPass(int least_ms, int most_ms);
  void DropSomeBrowsers();
  void SlowSomeBrowsers();
  void KillService(int signal);
  void KillGateway(int signal);
  void StallDisk();
  // A thread that lives for some events.
  void DeleteAThread();

  // Event ids by offset, as the service reads them from its log.
  std::map<uint64_t, std::string> ReadLog(const std::string& thread);
  void JudgeThread(const User& user, const std::string& thread);
  void JudgeDeleted(const User& user, const std::string& thread);
  // Every figure of the ledger, recomputed from the log by `clarionctl audit`.
  void Audit();

  int Random(int from, int to) {
    return static_cast<int>(from + random_() % static_cast<uint64_t>(to - from + 1));
  }
  void Count(const std::string& what) { ++happened_[what]; }

  // Calls until it is not refused for now, and answers the reason of what it is refused for.
  template <class Call>
  std::optional<Reason> Insist(Call call);

  std::mt19937_64 random_;
  std::mt19937_64 token_random_;  // of the browsers' thread
  Deployment deployment_;
  Deployment::Gateway* second_gateway_ = nullptr;
  std::vector<User> users_;
  AnswerRecord record_;
  Browsers browsers_;
  std::vector<std::unique_ptr<Producer>> producers_;
  std::map<std::string, int> happened_;
};

}  // namespace clarion::testing
