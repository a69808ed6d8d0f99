// Event streams, polls and questions over real sockets, with a fake hub and a fake link behind
// them.
#include "gateway/connection/browser_api.h"

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "boost/asio/read.hpp"
#include "boost/asio/read_until.hpp"
#include "boost/asio/write.hpp"
#include "boost/json/parse.hpp"
#include "gateway/connection/connection_testing.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/contract/error.h"
#include "telemetry/metrics.h"

namespace clarion::gateway {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::StartsWith;
namespace asio = boost::asio;

class BrowserApiTest : public ::testing::Test {
 protected:
  void Begin(ConnectionOptions options = {}) { loop_ = std::make_unique<TestLoop>(options); }
  // A client with a request of `body` to `target` on its way.
  struct Client {
    asio::io_context io;
    asio::ip::tcp::socket socket{io};
    std::string text;

    std::string Until(const std::string& end) {
      boost::system::error_code error;
      const size_t size = asio::read_until(socket, asio::dynamic_buffer(text), end, error);
      std::string part = text.substr(0, error ? text.size() : size);
      text.erase(0, part.size());
      return part;
    }
    std::string Rest() {
      boost::system::error_code ignored;
      asio::read(socket, asio::dynamic_buffer(text), ignored);
      return std::exchange(text, {});
    }
  };
  std::unique_ptr<Client> Post(const std::string& target, const std::string& body,
                               const std::string& user = "ada") {
    return Send("POST", target, body, user);
  }
  std::unique_ptr<Client> Send(const std::string& method, const std::string& target,
                               const std::string& body, const std::string& user = "ada") {
    return SendWith(TokenOf(user), method, target, body);
  }
  std::unique_ptr<Client> SendWith(const std::string& token, const std::string& method,
                                   const std::string& target, const std::string& body) {
    auto client = std::make_unique<Client>();
    client->socket.connect({asio::ip::address_v4::loopback(), loop_->port()});
    asio::write(
        client->socket,
        asio::buffer(method + " " + target + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" +
                     "Authorization: Bearer " + token +
                     "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body));
    return client;
  }
  // To the connection that was opened last.
  void Say(FramesPtr frames, FrameTag tag = kEvents) {
    loop_->Do([&] { loop_->hub.last()->Send(std::move(frames), 0, tag); });
  }
  static FramesPtr Event(Encoding encoding, uint64_t offset, size_t bytes = 1) {
    const auto event = std::make_shared<EncodedEvent>(
        R"("type":"custom","pad":")" + std::string(bytes, 'x') + "\"}", "");
    return Frames::OfEvents(encoding, Offset(offset), std::vector<EventPtr>{event}, "e");
  }
  // More than the kernel holds.
  static constexpr size_t kLarge = 16 * 1024 * 1024;
  static link::Page LargePage() {
    link::Page page;
    page.last = {Epoch("e"), Offset(1)};
    page.runs.push_back({.thread = ThreadId("t"), .epoch = Epoch("e"), .first = Offset(1)});
    page.runs[0].events.push_back(
        std::make_shared<EncodedEvent>(R"("pad":")" + std::string(kLarge, 'x') + "\"}", ""));
    return page;
  }
  void SetSettled(bool settled) {
    loop_->Do([&] { loop_->hub.settled = settled; });
  }
  // A poll that has long to wait, and of which the hub has not said all.
  std::unique_ptr<Client> BeginUnsettledPoll() {
    SetSettled(false);
    auto client =
        Post("/v1/poll", R"({"wait":60,"messages":[{"type":"subscribe","thread_id":"t"}]})");
    loop_->hub.NextOf("subscribe");
    return client;
  }
  // With event 1, and before its time is over.
  void ExpectAnsweredNow(Client& client) {
    loop_->TurnOver();
    ASSERT_FALSE(loop_->hub.Quiet()) << "it waits on";
    EXPECT_THAT(client.Rest(), HasSubstr(R"("offset":1,)"));
  }
  void SetAnswered(bool answered) {
    loop_->Do([&] { loop_->hub.answered = answered; });
  }

  std::unique_ptr<TestLoop> loop_;
};

// ---- Event streams ----

TEST_F(BrowserApiTest, AnEventStreamBeginsWithItsHeaderAndCarriesFramesAsTheyCome) {
  Begin();
  const auto client = Post("/v1/stream", R"([{"type":"subscribe","thread_id":"t"}])");
  EXPECT_THAT(client->Until("\r\n\r\n"), StartsWith("HTTP/1.1 200 OK"));
  EXPECT_EQ(client->Until("\n\n"), "retry: 1000\n\n");
  EXPECT_THAT(client->Until("\n\n"), StartsWith(R"(data: {"type":"connected")"));
  EXPECT_EQ(loop_->hub.NextOf("subscribe").thread_id, "t");
  Say(Event(Encoding::kEventStream, 7));
  EXPECT_THAT(client->Until("\n\n"), StartsWith("id: e:7\ndata: {\"offset\":7,"));
}

TEST_F(BrowserApiTest, AStreamThatEndsSaysWhyAndWhenToComeBack) {
  Begin();
  const auto client = Post("/v1/stream", "[]");
  client->Until(R"("type":"connected")");
  loop_->GoAway();
  const std::string rest = client->Rest();
  EXPECT_THAT(rest, HasSubstr(R"(data: {"type":"going_away","reconnect_after_ms":500})"));
  EXPECT_THAT(rest, HasSubstr("retry: 500\n\n"));
}

TEST_F(BrowserApiTest, AStreamWithoutATokenThatCountsIsAnError) {
  Begin();
  auto client = std::make_unique<Client>();
  client->socket.connect({asio::ip::address_v4::loopback(), loop_->port()});
  asio::write(client->socket,
              asio::buffer(std::string("POST /v1/stream HTTP/1.1\r\nHost: x\r\nContent-Length: "
                                       "2\r\n\r\n[]")));
  const std::string answer = client->Rest();
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 401"));
  EXPECT_THAT(answer, HasSubstr("UNAUTHENTICATED"));
}

TEST_F(BrowserApiTest, APageThatIsGoneIsToldToTheHub) {
  Begin();
  auto client = Post("/v1/stream", "[]");
  loop_->hub.NextOf("open");
  client.reset();
  EXPECT_EQ(loop_->hub.NextOf("close").detail, "CONNECTION_STATE_DISCONNECTED connection lost");
}

TEST_F(BrowserApiTest, PassedFramesCountOnceAndInOrder) {
  Begin();
  const auto client = Post("/v1/stream", "[]");
  loop_->hub.NextOf("open");
  const auto pass = [&](uint64_t sequence) {
    return loop_->Do([&] {
      return loop_->hub.last()->Pass(
          sequence, R"({"sequence":1,"messages":[{"type":"unsubscribe","thread_id":"t"}]})");
    });
  };
  EXPECT_FALSE(pass(2).ok);
  EXPECT_EQ(pass(2).next_sequence, 1u);
  EXPECT_TRUE(pass(1).ok);
  EXPECT_TRUE(pass(1).ok);
  EXPECT_EQ(loop_->hub.NextOf("unsubscribe").thread_id, "t");
  EXPECT_TRUE(loop_->hub.Quiet()) << "it counted twice";
}

TEST_F(BrowserApiTest, AStreamEndsWithItsTokenUnlessThatIsRefreshed) {
  Begin();
  const auto client = SendWith(TokenOf("ada", 1s), "POST", "/v1/stream", "[]");
  client->Until(R"("type":"connected")");
  client->Until("\n\n");
  const auto pass = [&](const std::string& token) {
    return loop_->Do([&] {
      return loop_->hub.last()->Pass(
          1, R"({"sequence":1,"messages":[{"type":"refresh","id":"r","token":")" + token + "\"}]}");
    });
  };
  EXPECT_TRUE(pass(TokenOf("ada", 2s)).ok);
  const std::string refreshed = client->Until("\n\n");
  EXPECT_THAT(refreshed, HasSubstr(R"("type":"refreshed")"));
  EXPECT_THAT(refreshed, HasSubstr(R"("id":"r")"));
  const std::string rest = client->Rest();
  EXPECT_THAT(rest, HasSubstr(R"("code":"UNAUTHENTICATED")"));
  EXPECT_EQ(loop_->hub.NextOf("close").detail, "CONNECTION_STATE_ERROR unauthenticated");
}

TEST_F(BrowserApiTest, AStreamIsRefusedWhatAPollIsRefused) {
  Begin();
  EXPECT_THAT(Post("/v1/stream", R"([{"type":"connect","protocol":2}])")->Rest(),
              StartsWith("HTTP/1.1 400"));
  loop_->BeginDrain();
  const std::string answer = Post("/v1/stream", "[]")->Rest();
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 503"));
  EXPECT_THAT(answer, HasSubstr("Retry-After: "));
}

// It is there, and its kernel says so: TCP must not give it up before it is told why.
TEST_F(BrowserApiTest, AStreamThatTakesNothingIsClosedAsSlowHoweverShortTheHeartbeat) {
  loop_ = std::make_unique<TestLoop>(ConnectionOptions{.heartbeat_ms = 100}, 100, 1s,
                                     128 * 1024 * 1024, 256 * 1024 * 1024, 3s);
  const auto client = Post("/v1/stream", "[]");
  loop_->hub.NextOf("open");
  const Gauge& queued = GetGauge("clarion_queued_bytes", "");
  for (uint64_t offset = 1; queued.value() == 0; ++offset) {
    ASSERT_LT(offset, 10'000u) << "the kernel takes half a gigabyte";
    Say(Event(Encoding::kEventStream, offset, 50'000), {});
    loop_->TurnOver();
  }
  EXPECT_EQ(loop_->hub.NextOf("close").detail, "CONNECTION_STATE_ERROR slow_consumer");
}

// Nobody can answer on one.
TEST_F(BrowserApiTest, AStreamIsPingedAndNeedNotAnswer) {
  Begin({.heartbeat_ms = 60});
  const auto client = Post("/v1/stream", "[]");
  // Longer than 2.5 heartbeats.
  for (int i = 0; i < 5; ++i) {
    EXPECT_THAT(client->Until(R"("type":"ping")"), HasSubstr("ping")) << i;
  }
  loop_->Do([&] { EXPECT_NE(loop_->hub.last(), nullptr) << "it was closed"; });
}

// ---- Polls ----

TEST_F(BrowserApiTest, APollIsAnsweredOnceThereIsSomethingAndRests) {
  Begin();
  SetSettled(false);
  const auto client = Post("/v1/poll", R"({"messages":[{"type":"subscribe","thread_id":"t"}]})");
  loop_->hub.NextOf("subscribe");
  Say(Event(Encoding::kList, 1));
  loop_->TurnOver();
  SetSettled(true);
  Say(Event(Encoding::kList, 2));
  const std::string answer = client->Rest();
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK"));
  const auto body = boost::json::parse(answer.substr(answer.find("\r\n\r\n") + 4)).as_object();
  EXPECT_EQ(body.at("frames").as_array().size(), 3u) << answer;
  EXPECT_EQ(loop_->hub.NextOf("rest").detail, "30000");
}

// Receipts are made of marks.
TEST_F(BrowserApiTest, WhatAPollIsToldCountsAsWrittenWithItsAnswer) {
  Begin();
  SetSettled(false);
  auto client = Post("/v1/poll", R"({"messages":[{"type":"subscribe","thread_id":"t"}]})");
  loop_->hub.NextOf("subscribe");
  Say(Event(Encoding::kList, 1));
  const Subscriber::Mark waiting = loop_->Do([&] { return loop_->hub.last()->mark(); });
  EXPECT_EQ(waiting.written, 0u);
  EXPECT_GT(waiting.queued, 0u);
  SetSettled(true);
  Say(Event(Encoding::kList, 2));
  EXPECT_THAT(client->Rest(), HasSubstr(R"("offset":2,)"));
  loop_->hub.NextOf("rest");
  loop_->Do([&] {
    EXPECT_GT(loop_->hub.rested.written, waiting.queued);
    EXPECT_EQ(loop_->hub.rested.written, loop_->hub.rested.queued);
  });
  // One whose page is gone was told nothing.
  SetSettled(false);
  client = Post("/v1/poll", R"({"messages":[{"type":"subscribe","thread_id":"t"}]})");
  loop_->hub.NextOf("subscribe");
  Say(Event(Encoding::kList, 1));
  client.reset();
  loop_->hub.NextOf("rest");
  loop_->Do([&] {
    EXPECT_EQ(loop_->hub.rested.written, 0u);
    EXPECT_GT(loop_->hub.rested.queued, 0u);
  });
}

TEST_F(BrowserApiTest, APollThatHearsNothingNewIsAnsweredWhenItsTimeIsOver) {
  Begin();
  const auto first = Post("/v1/poll", R"({"wait":0})");
  const std::string answer = first->Rest();
  const size_t at = answer.find("poll-");
  const std::string id = answer.substr(at, answer.find('"', at) - at);
  const auto second =
      Post("/v1/poll", R"({"connection_id":")" + id +
                           R"(","positions":[{"thread_id":"t","epoch":"e","offset":3}],)" +
                           R"("wait":0})");
  EXPECT_THAT(second->Rest(), HasSubstr(R"("frames":[])"));
  EXPECT_EQ(loop_->hub.NextOf("resume").detail, "e:3");
}

TEST_F(BrowserApiTest, WhatDoesNotFitAPollIsTakenBackAndComesWithTheNext) {
  Begin({.max_queued_bytes = 100'000});
  SetSettled(false);
  const auto client = Post("/v1/poll", R"({"messages":[{"type":"subscribe","thread_id":"t"}]})");
  loop_->hub.NextOf("subscribe");
  std::vector<Subscriber::TakenBack> taken;
  loop_->Do([&] {
    loop_->hub.on_overflow = [&](Subscriber* subscriber) { taken = subscriber->TakeBack({1}); };
    for (uint64_t offset = 1; offset <= 4; ++offset) {
      loop_->hub.last()->Send(Event(Encoding::kList, offset, 40'000), 0, kEvents);
    }
  });
  const std::string answer = client->Rest();
  EXPECT_THAT(answer, HasSubstr(R"("offset":2,)"));
  EXPECT_THAT(answer, ::testing::Not(HasSubstr(R"("offset":3,)")));
  loop_->hub.NextOf("rest");
  loop_->Do([&] {
    ASSERT_EQ(taken.size(), 1u);
    EXPECT_EQ(taken[0].first, Offset(3));
  });
}

// Its page would never hear of it again.
TEST_F(BrowserApiTest, AFullPollWaitsForWhatIsNotAnswered) {
  Begin({.max_queued_bytes = 100'000});
  SetSettled(false);
  SetAnswered(false);
  const auto client = Post("/v1/poll", R"({"messages":[{"type":"subscribe","thread_id":"t"}]})");
  loop_->hub.NextOf("subscribe");
  for (const uint64_t offset : {1, 2}) {
    Say(Event(Encoding::kList, offset, 90'000));
    loop_->TurnOver();
    ASSERT_TRUE(loop_->hub.Quiet()) << "it was answered";
  }
  SetAnswered(true);
  v1::ServerFrame frame;
  frame.mutable_bound()->set_thread_id("late");
  Say(Frames::OfMessage(Encoding::kList, frame), {.source = 2});
  const std::string answer = client->Rest();
  EXPECT_THAT(answer, HasSubstr(R"("thread_id":"late")"));
  EXPECT_THAT(answer, HasSubstr(R"("offset":1,)"));
  EXPECT_THAT(answer, ::testing::Not(HasSubstr(R"("offset":2,)")));
}

// The hub asks no more of it once it said that there is no room.
TEST_F(BrowserApiTest, APollIsAnsweredWithWhatItHasWhileMemoryIsShort) {
  loop_ = std::make_unique<TestLoop>(ConnectionOptions(), 100, 1s, 128 * 1024 * 1024, 100'000);
  const auto client = BeginUnsettledPoll();
  EXPECT_TRUE(loop_->Do([&] { return loop_->hub.last()->HasRoom(); }));
  loop_->Do([&] {
    loop_->hub.last()->Send(Event(Encoding::kList, 1, 90'000), 0, kEvents);
    EXPECT_FALSE(loop_->hub.last()->HasRoom());
  });
  ExpectAnsweredNow(*client);
}

// Nor if there is room again by the time it looks.
TEST_F(BrowserApiTest, APollThatTurnedAPageAwayIsAnswered) {
  loop_ = std::make_unique<TestLoop>(ConnectionOptions(), 100, 1s, 128 * 1024 * 1024, 100'000);
  const auto client = BeginUnsettledPoll();
  Say(Event(Encoding::kList, 1, 1'000));
  loop_->TurnOver();
  ASSERT_TRUE(loop_->hub.Quiet()) << "there is room";
  loop_->Do([&] {
    loop_->budget().Change(0, 90'000);
    EXPECT_FALSE(loop_->hub.last()->HasRoom());
    loop_->budget().Change(90'000, 0);
  });
  ExpectAnsweredNow(*client);
}

TEST_F(BrowserApiTest, APollTellsWhatItHasWhenTheServiceIsGone) {
  Begin();
  const auto client = BeginUnsettledPoll();
  Say(Event(Encoding::kList, 1));
  loop_->TurnOver();
  ASSERT_TRUE(loop_->hub.Quiet()) << "there may be more";
  loop_->Do([&] {
    loop_->hub.linked = false;
    loop_->hub.last()->OnDone();
  });
  ExpectAnsweredNow(*client);
}

TEST_F(BrowserApiTest, AnAnsweredPollAsksForNothingMore) {
  Begin({.max_queued_bytes = 100'000});
  SetSettled(false);
  const auto client = Post("/v1/poll", R"({"messages":[{"type":"subscribe","thread_id":"t"}]})");
  loop_->hub.NextOf("subscribe");
  bool room = true;
  loop_->Do([&] {
    loop_->hub.on_overflow = [&](Subscriber* subscriber) {
      // The source of what was left out waits for the service, and keeps its place.
      EXPECT_TRUE(subscriber->TakeBack({2}).empty());
      room = subscriber->HasRoom();
    };
    for (uint64_t offset = 1; offset <= 4; ++offset) {
      loop_->hub.last()->Send(Event(Encoding::kList, offset, 40'000), 0, kEvents);
    }
  });
  EXPECT_THAT(client->Rest(), StartsWith("HTTP/1.1 200"));
  loop_->hub.NextOf("rest");
  loop_->Do([&] {
    EXPECT_FALSE(room) << "a page would come to nobody";
    EXPECT_LT(loop_->hub.rested.written, loop_->hub.rested.queued) << "not all was written";
  });
}

TEST_F(BrowserApiTest, APageThatLeavesItsPollKeepsItsPlace) {
  Begin();
  auto client =
      Post("/v1/poll", R"({"wait":60,"messages":[{"type":"subscribe","thread_id":"t"}]})");
  SetSettled(false);
  loop_->hub.NextOf("open");
  client.reset();
  EXPECT_EQ(loop_->hub.NextOf("rest").detail, "30000");
  // The same of one whose machine resets the connection.
  client = Post("/v1/poll", R"({"wait":60,"messages":[{"type":"subscribe","thread_id":"t"}]})");
  loop_->hub.NextOf("open");
  client->socket.set_option(asio::socket_base::linger(true, 0));
  client.reset();
  EXPECT_EQ(loop_->hub.NextOf("rest").detail, "30000");
}

TEST_F(BrowserApiTest, APollOfAnIdThatNobodyWasGivenIsRefused) {
  Begin();
  EXPECT_THAT(Post("/v1/poll", R"({"connection_id":"g-1-1"})")->Rest(), StartsWith("HTTP/1.1 400"));
  EXPECT_THAT(Post("/v1/poll", R"({"nonsense":1})")->Rest(), HasSubstr("nonsense is unknown"));
}

TEST_F(BrowserApiTest, AGatewayThatStopsAnswersItsPollsAndLetsNobodyInAnyMore) {
  Begin();
  SetSettled(false);
  const auto waiting = Post("/v1/poll", R"({"wait":60})");
  loop_->hub.NextOf("open");
  loop_->GoAway();
  EXPECT_THAT(waiting->Rest(), HasSubstr(R"("type":"going_away")"));
  EXPECT_EQ(loop_->hub.NextOf("rest").detail, "30000") << "it goes on elsewhere";
  loop_->BeginDrain();
  EXPECT_THAT(Post("/v1/poll", "{}")->Rest(), StartsWith("HTTP/1.1 503"));
}

// ---- Questions ----

TEST_F(BrowserApiTest, QuestionsAreAskedInTheNameOfTheTokensUser) {
  Begin();
  loop_->link.on_ask = [](const v1::AskRequest& request) {
    EXPECT_EQ(request.list_threads().user_id(), "ada");
    EXPECT_EQ(request.list_threads().page_size(), 7u);
    v1::AskResponse response;
    response.mutable_list_threads()->add_threads()->set_thread_id("t");
    return response;
  };
  EXPECT_THAT(Send("GET", "/v1/threads?limit=7", "")->Rest(), HasSubstr(R"("thread_id":"t")"));
}

TEST_F(BrowserApiTest, AnEmptyPageBeforeAnOffsetGoesOnThere) {
  Begin();
  loop_->link.on_read = [](const v1::ReadPageRequest&) {
    return link::Page{.last = {Epoch("e"), Offset(10)}};
  };
  EXPECT_THAT(Send("GET", "/v1/threads/t/events?before=4", "")->Rest(),
              HasSubstr(R"("next":"e:3")"));
  EXPECT_THAT(Send("GET", "/v1/threads/t/events?after=10", "")->Rest(),
              HasSubstr(R"("next":"e:10")"));
}

// Whoever reads pages follows nothing: nobody is ready because of it.
TEST_F(BrowserApiTest, WaitingForAPageIsSeenByNoPage) {
  Begin();
  bool came = false;
  loop_->link.on_read = [&](const v1::ReadPageRequest&) {
    link::Page page{.last = {Epoch("e"), Offset(came ? 1 : 0)}};
    if (came) {
      page.runs.push_back({.thread = ThreadId("t"), .epoch = Epoch("e"), .first = Offset(1)});
      page.runs.back().events.push_back(
          std::make_shared<EncodedEvent>(R"("type":"agent_started"})", ""));
    }
    return page;
  };
  SetSettled(false);
  const auto client = Send("GET", "/v1/threads/t/events?wait=60", "");
  EXPECT_EQ(loop_->hub.NextOf("resume").thread_id, "t");
  EXPECT_TRUE(loop_->hub.unseen);
  loop_->Do([&] { came = true; });
  SetSettled(true);
  Say(Event(Encoding::kList, 1));
  EXPECT_THAT(client->Rest(), HasSubstr(R"("offset":1,)"));
  EXPECT_EQ(loop_->hub.NextOf("close").detail.substr(0, 29), "CONNECTION_STATE_DISCONNECTED");
  const auto poll = Post("/v1/poll", R"({"wait":0})");
  EXPECT_THAT(poll->Rest(), StartsWith("HTTP/1.1 200"));
  EXPECT_FALSE(loop_->hub.unseen);
}

TEST_F(BrowserApiTest, ABodyIsNoLargerThanAMessageHoweverItIsAnnounced) {
  Begin({.max_message_bytes = 1'000});
  const std::string small = R"({"wait":0})";
  EXPECT_THAT(Post("/v1/poll", small + std::string(1'000 - small.size(), ' '))->Rest(),
              StartsWith("HTTP/1.1 200"));
  for (const size_t bytes : {1'001ul, 2'000'000ul}) {
    const std::string answer = Post("/v1/poll", std::string(bytes, ' '))->Rest();
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 413")) << bytes;
    EXPECT_THAT(answer, HasSubstr("BUFFER_OVERFLOW")) << bytes;
  }
}

TEST_F(BrowserApiTest, AUserAsksOnlySoMuchAtATime) {
  Begin();
  loop_->link.on_ask = [](const v1::AskRequest&) { return v1::AskResponse(); };
  for (int i = 0; i < 5; ++i) {
    EXPECT_THAT(Send("GET", "/v1/threads", "")->Rest(), StartsWith("HTTP/1.1 200")) << i;
  }
  const UserId ada("ada");
  while (loop_->question_limit.TryAcquire(ada)) {
  }
  const std::string answer = Send("GET", "/v1/threads", "")->Rest();
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 429"));
  EXPECT_THAT(answer, HasSubstr("RATE_LIMITED"));
  EXPECT_THAT(Send("GET", "/v1/threads", "", "bob")->Rest(), StartsWith("HTTP/1.1 200"));
  loop_->question_limit.Release(ada);
  EXPECT_THAT(Send("GET", "/v1/threads", "")->Rest(), StartsWith("HTTP/1.1 200"));
}

// Longer than it may take nothing, which is longer than a request may take.
TEST_F(BrowserApiTest, ASlowClientGetsItsWholeAnswer) {
  loop_ = std::make_unique<TestLoop>(ConnectionOptions{.handshake_timeout_ms = 500}, 100, 1s,
                                     128 * 1024 * 1024, 256 * 1024 * 1024, 1s);
  loop_->link.on_read = [](const v1::ReadPageRequest&) { return LargePage(); };
  const auto client = Send("GET", "/v1/threads/t/events", "");
  const auto begun = std::chrono::steady_clock::now();
  std::vector<char> part(kLarge / 200);
  size_t total = 0;
  for (;;) {
    boost::system::error_code error;
    total += asio::read(client->socket, asio::buffer(part), error);
    if (error) break;
    std::this_thread::sleep_for(10ms);  // its line is slow
  }
  EXPECT_GT(total, kLarge);
  EXPECT_GT(std::chrono::steady_clock::now() - begun, 1s);
}

TEST_F(BrowserApiTest, AClientThatTakesNothingOfItsAnswerIsGivenUp) {
  loop_ = std::make_unique<TestLoop>(ConnectionOptions(), 100, 1s, 128 * 1024 * 1024,
                                     256 * 1024 * 1024, 100ms);
  loop_->link.on_read = [](const v1::ReadPageRequest&) { return LargePage(); };
  const auto client = Send("GET", "/v1/threads/t/events", "");
  loop_->WaitForEnds(1);
  EXPECT_LT(client->Rest().size(), kLarge);
}

TEST_F(BrowserApiTest, AnswersThatWaitCountAsWhatAllQueuesHold) {
  loop_ =
      std::make_unique<TestLoop>(ConnectionOptions(), 100, 1s, 128 * 1024 * 1024, kLarge / 2 * 5);
  loop_->link.on_read = [](const v1::ReadPageRequest&) { return LargePage(); };
  std::vector<std::unique_ptr<Client>> clients;
  for (const char* user : {"ada", "bob", "cid"})
    clients.push_back(Send("GET", "/v1/threads/t/events", "", user));
  loop_->WaitForEnds(1);
  size_t whole = 0;
  for (const auto& client : clients) whole += client->Rest().size() > kLarge;
  EXPECT_EQ(whole, 2u);
}

TEST_F(BrowserApiTest, WhatTheServiceRefusesIsAnHttpErrorOfTheSameReason) {
  Begin();
  loop_->link.on_read = [](const v1::ReadPageRequest& request) -> absl::StatusOr<link::Page> {
    EXPECT_EQ(request.user_id(), "ada");
    return MakeError(Reason::kNotFound, "no such thread");
  };
  EXPECT_THAT(Send("GET", "/v1/threads/t/events", "")->Rest(), StartsWith("HTTP/1.1 404"));
  loop_->link.on_ask = [](const v1::AskRequest&) -> absl::StatusOr<v1::AskResponse> {
    return MakeError(Reason::kLogUnavailable, "the disk is full");
  };
  const std::string unavailable = Send("GET", "/v1/threads", "")->Rest();
  EXPECT_THAT(unavailable, StartsWith("HTTP/1.1 503"));
  EXPECT_THAT(unavailable, HasSubstr("Retry-After: 1"));
  // Tells it from what a proxy says.
  EXPECT_THAT(unavailable, HasSubstr(R"({"type":"error","code":"LOG_UNAVAILABLE")"));
}

TEST_F(BrowserApiTest, APageIsAskedOnlyOfAServiceThatChecksWhoseItIs) {
  Begin();
  loop_->Do([&] { loop_->hub.user_pages = false; });
  EXPECT_THAT(Send("GET", "/v1/threads/t/events", "")->Rest(), StartsWith("HTTP/1.1 503"));
}

}  // namespace
}  // namespace clarion::gateway
