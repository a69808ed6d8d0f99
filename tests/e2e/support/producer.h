// Backends as Clarion sees them: real gRPC clients that send again, under the same event_id, what
// was not answered, and keep a record of every answer.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/e2e/support/deployment.h"

namespace clarion::testing {

// An agent_thinking event with some text.
v1::Event Thinking(const std::string& user, const std::string& thread, const std::string& event_id,
                   const std::string& text = "hm");
v1::Event Completed(const std::string& user, const std::string& thread,
                    const std::string& event_id);

// One stream, for many events as fast as they are taken.
class BulkPublisher {
 public:
  explicit BulkPublisher(const Deployment& deployment);
  ~BulkPublisher();
  // Returns when all are accepted; a refusal fails the test.
  void Publish(const std::vector<v1::Event>& events);

 private:
  std::unique_ptr<v1::EventService::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::PublishStreamRequest, v1::PublishStreamResponse>>
      stream_;
};

// What publishers were told: thread -> offset -> event_id. Two ids under one offset, or two offsets
// for one id, is a fault.
class AnswerRecord {
 public:
  void Accepted(const std::string& thread, const std::string& event_id, uint64_t offset);
  std::map<uint64_t, std::string> Of(const std::string& thread) const;
  size_t count() const;
  // False: time is over.
  bool WaitForCount(size_t count, std::chrono::seconds limit) const;
  std::string fault() const;

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable grew_;
  std::map<std::string, std::map<uint64_t, std::string>> by_offset_;
  std::map<std::string, uint64_t> by_id_;
  size_t count_ = 0;
  std::string fault_;
};

enum class Style { kOneByOne, kPipelined };

// Publishes to its threads in turn until stopped, as many events a second as it may (0: as fast as
// it goes); then finishes what is not answered.
class Producer {
 public:
  Producer(const Deployment& deployment, AnswerRecord* record, Style style, std::string name,
           std::string user, std::vector<std::string> threads, int per_second = 0);
  ~Producer();
  void Stop();  // returns when everything that was sent is answered

 private:
  void RunOneByOne();
  void RunPipelined();
  v1::Event Next();
  void KeepPace();

  AnswerRecord* record_;
  std::unique_ptr<v1::EventService::Stub> stub_;
  std::string name_;
  std::string user_;
  std::vector<std::string> threads_;
  const int per_second_;
  const std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
  uint64_t made_ = 0;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace clarion::testing
