// `clarionctl publish` against a service that follows a script.
#include <algorithm>
#include <chrono>
#include <fstream>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "boost/json/parse.hpp"
#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "proto/contract/error.h"
#include "service/ctl/ctl_testing.h"
#include "service/ctl/publish_input.h"
#include "service/ctl/publish_lines.h"
#include "service/ctl/publish_stream.h"

namespace clarion::ctl {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;

// Accepts every event of every batch, and keeps the batches.
class FakeService final : public v1::EventService::Service {
 public:
  struct Options {
    int max_message_bytes = 4 * 1024 * 1024;
    // With an event of this id the call ends so.
    std::string poison;
    grpc::Status end;
  };
  FakeService() : FakeService(Options{}) {}
  explicit FakeService(Options options) : options_(std::move(options)) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.SetMaxReceiveMessageSize(options_.max_message_bytes);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~FakeService() override { server_->Shutdown(std::chrono::system_clock::now()); }

  grpc::Status PublishStream(grpc::ServerContext* /*context*/,
                             grpc::ServerReaderWriter<v1::PublishStreamResponse,
                                                      v1::PublishStreamRequest>* stream) override {
    for (v1::PublishStreamRequest request; stream->Read(&request);) {
      if (Poisoned(request)) return options_.end;
      batches.push_back(request);
      v1::PublishStreamResponse response;
      for (const v1::PublishRequest& one : request.events()) {
        ids.push_back(one.event().event_id());
        v1::PublishResult& result = *response.add_results();
        result.set_event_id(one.event().event_id());
        result.mutable_accepted()->set_offset(ids.size());
      }
      stream->Write(response);
    }
    return grpc::Status::OK;
  }

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

  // Read them when no call is under way.
  std::vector<v1::PublishStreamRequest> batches;
  std::vector<std::string> ids;

 private:
  bool Poisoned(const v1::PublishStreamRequest& request) const {
    return std::any_of(
        request.events().begin(), request.events().end(), [this](const v1::PublishRequest& one) {
          return !options_.poison.empty() && one.event().event_id() == options_.poison;
        });
  }

  const Options options_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

std::string Line(const std::string& id, const std::string& delta = "d") {
  return R"({"type":"agent_message_delta","event_id":")" + id +
         R"(","message_id":"m","role":"assistant","delta":")" + delta + R"(","is_final":false})";
}

const std::vector<std::string> kWho = {"--user", "u", "--thread", "t",
                                       "--run",  "r", "--agent",  "a"};

// The lines are a file's content.
Ran Publish(const FakeService& service, const std::string& lines,
            const std::vector<std::string>& flags = {},
            const std::vector<std::string>& who = kWho) {
  const std::string path = testing::TempDir() + "/ctl_publish_" + std::to_string(::getpid());
  std::ofstream(path, std::ios::binary) << lines;
  std::vector<std::string> arguments = {"publish", path, "--service", service.address()};
  arguments.insert(arguments.end(), who.begin(), who.end());
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  const Ran ran = Ctl(arguments);
  std::remove(path.c_str());
  return ran;
}

TEST(Publish, ALineThatFitsIntoNoMessageIsRefusedAloneAndTheOthersGoOn) {
  FakeService service;
  const Ran ran =
      Publish(service, Line("e1") + "\n" + Line("huge", std::string(6 * 1024 * 1024, 'x')) + "\n" +
                           Line("e3") + "\n");
  EXPECT_EQ(ran.exit_code, kFailed);
  EXPECT_THAT(service.ids, ElementsAre("e1", "e3"));
  EXPECT_THAT(ran.err,
              AllOf(HasSubstr("line 2: event huge: "), HasSubstr("BUFFER_OVERFLOW"),
                    HasSubstr("4194304"), HasSubstr("2 accepted"), HasSubstr("1 refused")));
}

TEST(Publish, AnEventThatEndsTheCallIsRefusedAloneAndTheOthersGoOn) {
  FakeService service({.max_message_bytes = 64 * 1024});
  const Ran ran = Publish(service, Line("e1") + "\n" + Line("large", std::string(80'000, 'x')) +
                                       "\n" + Line("e3") + "\n" + Line("e4") + "\n");
  EXPECT_EQ(ran.exit_code, kFailed);
  EXPECT_THAT(service.ids, ElementsAre("e1", "e3", "e4"));
  EXPECT_THAT(ran.err, AllOf(HasSubstr("line 2: event large: "), HasSubstr("3 accepted")));
}

TEST(Publish, ATypedEndOfTheCallIsTheResultOfTheEventThatCausedIt) {
  FakeService service(
      {.poison = "e2", .end = ToGrpc(MakeError(Reason::kBufferOverflow, "larger than the limit"))});
  const Ran ran = Publish(service, Line("e1") + "\n" + Line("e2") + "\n" + Line("e3") + "\n");
  EXPECT_EQ(ran.exit_code, kFailed);
  EXPECT_THAT(service.ids, ElementsAre("e1", "e3"));
  EXPECT_THAT(ran.err, AllOf(HasSubstr("line 2: event e2: "), HasSubstr("larger than the limit"),
                             HasSubstr("BUFFER_OVERFLOW")));
}

TEST(Publish, BatchesStayWithinTheServicesBounds) {
  FakeService service;
  std::string lines;
  // Short as lines, long as events: what the flags add counts too.
  for (int i = 0; i < 2'000; ++i) lines += Line("e" + std::to_string(i)) + "\n";
  for (int i = 0; i < 20; ++i) {
    lines += Line("l" + std::to_string(i), std::string(300'000, 'x')) + "\n";
  }
  lines += Line("alone", std::string(3 * 1024 * 1024, 'x')) + "\n";
  const Ran ran = Publish(service, lines, {"--quiet"},
                          {"--user", std::string(128, 'u'), "--thread", std::string(128, 't'),
                           "--run", std::string(128, 'r'), "--agent", std::string(256, 'a')});
  EXPECT_EQ(ran.exit_code, kOk) << ran.err.substr(0, 2000);
  EXPECT_THAT(service.ids, SizeIs(2'021));
  EXPECT_EQ(service.ids.back(), "alone");
  for (const v1::PublishStreamRequest& batch : service.batches) {
    EXPECT_LE(batch.events_size(), 1024);
    if (batch.events_size() == 1) continue;
    EXPECT_LE(batch.ByteSizeLong(), 1024u * 1024);
  }
}

TEST(Publish, EveryBadLineIsSaidByNumberAndEmptyOnesAreNot) {
  FakeService service;
  const Ran ran = Publish(service, "\n" + Line("e2") + "\n{]\n  \t\r\n" + Line("e5", "\xff\xfe") +
                                       "\n" + R"({"type":"fly","event_id":"e6"})" + "\n[]\n" +
                                       std::string("\0\x01", 2) + "\n" +
                                       Line("e9"));  // the last without a line end
  EXPECT_EQ(ran.exit_code, kFailed);
  EXPECT_THAT(service.ids, ElementsAre("e2", "e9"));
  EXPECT_THAT(ran.err,
              AllOf(HasSubstr("line 3: "), HasSubstr("line 5: "), HasSubstr("line 6: event e6: "),
                    HasSubstr("line 7: "), HasSubstr("line 8: ")));
  EXPECT_THAT(ran.err, AllOf(Not(HasSubstr("line 1")), Not(HasSubstr("line 4")),
                             HasSubstr("2 accepted"), HasSubstr("5 refused")));
}

TEST(Publish, JsonHasAResultForEachLine) {
  FakeService service;
  const Ran ran = Publish(service, Line("e1") + "\n{]\n", {"--json"});
  std::istringstream out(ran.out);
  std::set<int64_t> refused, accepted;
  for (std::string text; std::getline(out, text);) {
    const auto result = boost::json::parse(text).as_object();
    (result.contains("refused") ? refused : accepted).insert(result.at("line").as_int64());
  }
  EXPECT_THAT(accepted, ElementsAre(1));
  EXPECT_THAT(refused, ElementsAre(2));
}

TEST(Publish, AFileThatCannotBeReadIsNoEmptyFile) {
  FakeService service;
  const Ran ran = Ctl({"publish", testing::TempDir(), "--service", service.address()});
  EXPECT_EQ(ran.exit_code, kFailed);
  EXPECT_THAT(ran.err, HasSubstr("cannot read"));
}

TEST(PublishInput, CutsALineThatNoEventNeeds) {
  LineQueue queue;
  std::istringstream in(std::string(kMaxLineBytes + 5, 'x') + "\nshort");
  std::thread reader([&] { ReadLines(in, queue); });
  std::vector<std::pair<uint64_t, size_t>> lines;
  for (std::vector<ctl::Line> taken = queue.Pop(); !taken.empty(); taken = queue.Pop()) {
    for (const ctl::Line& line : taken) lines.emplace_back(line.number, line.text.size());
  }
  reader.join();
  EXPECT_THAT(lines, ElementsAre(std::pair(1u, kMaxLineBytes + 1), std::pair(2u, 5u)));
}

TEST(PublishLines, TheEventIdIsFoundInWhatIsNoEvent) {
  EXPECT_EQ(EventIdIn(R"({"event_id":"e1","type":7})"), "e1");
  EXPECT_EQ(EventIdIn(R"({"event_id":1})"), "");
  EXPECT_EQ(EventIdIn("{"), "");
  EXPECT_EQ(EventIdIn("[]"), "");
}

}  // namespace
}  // namespace clarion::ctl
