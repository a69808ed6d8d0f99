#include "gateway/connection/poll.h"

#include <algorithm>
#include <random>
#include <utility>

#include "boost/asio/post.hpp"
#include "boost/json/serialize.hpp"
#include "gateway/connection/farewell.h"
#include "proto/base/text.h"

namespace clarion::gateway {
namespace {

namespace asio = boost::asio;

// What is asked for may take so long beyond the wait: the service, and its log.
constexpr std::chrono::seconds kPatience{12};

// Names of connections that poll: nobody guesses another's.
constexpr std::string_view kIdPrefix = "poll-";
constexpr size_t kIdDigits = 32;

std::string RandomId() {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::random_device random;
  std::string id(kIdPrefix);
  for (size_t i = 0; i < kIdDigits; ++i) id += kDigits[random() % 16];
  return id;
}

bool IsPollId(std::string_view id) {
  return id.size() == kIdPrefix.size() + kIdDigits && id.substr(0, kIdPrefix.size()) == kIdPrefix &&
         id.find_first_not_of("0123456789abcdef", kIdPrefix.size()) == std::string_view::npos;
}

}  // namespace

std::shared_ptr<Poll> Poll::Start(ConnectionContext& context, Request request,
                                  std::function<void(HttpResponse)> done) {
  std::shared_ptr<Poll> poll(new Poll(context, std::move(done)));
  poll->Begin(request);
  return poll;
}

std::shared_ptr<Poll> Poll::StartQuiet(ConnectionContext& context, Request request,
                                       std::function<void(HttpResponse)> done) {
  std::shared_ptr<Poll> poll(new Poll(context, std::move(done)));
  poll->lease_ = {};
  poll->unseen_ = true;
  request.page.connection_id = RandomId();
  poll->Begin(request);
  return poll;
}

Poll::Poll(ConnectionContext& context, std::function<void(HttpResponse)> done)
    : Connection(context, v1::TRANSPORT_POLLING, Encoding::kList),
      done_(std::move(done)),
      answer_at_(Clock::now() + kUsualWait),
      lease_(context.options.poll_lease_ms) {}

Poll::~Poll() {
  LeaveHub();
  Count(0);
}

void Poll::Begin(const Request& request) {
  const PageRequest& page = request.page;
  if (page.wait) answer_at_ = Clock::now() + *page.wait;
  resumed_ = !page.connection_id.empty();
  id_ = resumed_ ? page.connection_id : RandomId();
  if (!IsPollId(id_)) {
    return Close(CloseCode::kBadRequest, "connection_id is none that a poll was given");
  }
  const auto& messages = page.messages;
  size_t next = 0;
  v1::ClientFrame connect;
  connect.mutable_connect()->set_protocol(kProtocol);
  if (!messages.empty() && messages[0].frame.has_connect()) {
    if (messages[0].verdict != ClientMessage::Verdict::kValid) {
      return Close(CloseCode::kBadRequest, messages[0].problem);
    }
    connect = messages[next++].frame;
  }
  if (!request.token.empty()) connect.mutable_connect()->set_token(request.token);
  Connect(connect.connect(), connect.id());
  if (state() != State::kConnected) return;
  for (const v1::ThreadPosition& position : page.positions) {
    context_.hub->Resume(this, {.at = position, .by_all = page.all, .full = page.full});
  }
  if (page.all) context_.hub->ResumeAll(this, page.full);
  for (; next < messages.size() && state() == State::kConnected; ++next) {
    if (WithinRate(Clock::now())) OnMessage(messages[next]);
  }
  LookSoon();
}

// ---- What its page is told ----

void Poll::Send(FramesPtr frames, size_t first, FrameTag tag) {
  if (first >= frames->count()) return;
  if (tag.known) return LookSoon();
  const std::string_view bytes = frames->bytes().substr(frames->begin(first));
  accepted_ += bytes.size();
  // What answers a page's frames is small, and always has room.
  const bool fits = frames_.size() + bytes.size() <= context_.options.max_queued_bytes ||
                    frames_.empty() || !tag.events;
  if (done_ == nullptr || !fits || cut_.contains(tag.source)) {
    auto& left_out = cut_[tag.source];
    if (tag.events && !left_out) left_out = frames->first_offset(first);
    return LookSoon();
  }
  frames_.append(bytes);
  frame_count_ += frames->count() - first;
  Count(frames_.size());
  LookSoon();
}

std::vector<Subscriber::TakenBack> Poll::TakeBack(const absl::flat_hash_set<uint32_t>& sources) {
  std::vector<TakenBack> taken;
  bool all = true;
  for (const auto& [source, left_out] : cut_) {
    if (left_out && sources.contains(source)) taken.push_back({source, *left_out});
    all = all && (!left_out || sources.contains(source));
  }
  // What stays cut is never written; what is behind it does not count as written either.
  if (all) accepted_ = told_;
  return taken;
}

bool Poll::Full() const {
  return turned_away_ || frames_.size() >= context_.options.max_queued_bytes / 2 ||
         frame_count_ >= context_.options.max_queued_events / 2 ||
         (!frames_.empty() && context_.turn.queues().budget().tight());
}

bool Poll::HasRoom() {
  if (done_ == nullptr) return false;
  if (!Full()) return true;
  turned_away_ = true;
  LookSoon();
  return false;
}

void Poll::Count(size_t bytes) {
  context_.turn.queues().budget().Change(counted_, bytes);
  counted_ = bytes;
}

// ---- When ----

void Poll::LookSoon() {
  if (done_ == nullptr || std::exchange(looking_, true)) return;
  // Behind every handler that is ready now: what they have to say goes with it.
  asio::post(context_.loop, [self = weak_from_this()] {
    if (const auto poll = self.lock()) poll->Look();
  });
}

void Poll::Look() {
  looking_ = false;
  if (done_ == nullptr) return;
  if (refusal_ != nullptr) return Answer(std::move(*refusal_));
  const Clock::time_point now = Clock::now();
  const bool settled = !in_hub() || context_.hub->Settled(this);
  const bool said = frame_count_ > 0 || now >= answer_at_;
  const bool full = Full() || !cut_.empty();
  // Nothing comes for now to go with what there is.
  const bool cut_off = said && in_hub() && !context_.hub->attached().ok();
  const bool enough = (full || cut_off) && (!in_hub() || context_.hub->Answered(this));
  if (state() == State::kClosing || enough || (settled && said) || now >= answer_at_ + kPatience) {
    Answer(AnswerOfFrames());
  }
}

void Poll::ArmNext() {
  const Clock::time_point now = Clock::now();
  Clock::time_point next = now < answer_at_ ? answer_at_ : answer_at_ + kPatience;
  if (state() == State::kConnected) next = std::min(next, token_ends_at());
  context_.wheel.Arm(*this, next);
}

void Poll::OnTimer(TimerWheel::Time now) {
  if (state() == State::kConnected && now >= token_ends_at()) {
    return Close(CloseCode::kUnauthenticated, "the token has expired");
  }
  LookSoon();
  ArmNext();
}

// ---- Its end ----

FramesPtr Poll::LastWords(const CloseRow& row, std::string_view message, uint32_t retry_after_ms) {
  if (state() == State::kConnecting) {
    refusal_ = std::make_unique<HttpResponse>(Responder::ErrorByRow(row, message, retry_after_ms));
    return nullptr;
  }
  return Farewell(encoding(), row, message, retry_after_ms);
}

void Poll::SayLast(FramesPtr last_words) {
  if (last_words != nullptr && !last_words->bytes().empty()) Send(std::move(last_words), 0);
  LookSoon();
}

HttpResponse Poll::AnswerOfFrames() {
  std::string body = std::exchange(frames_, {});
  told_ = body.size();
  if (!body.empty()) body.pop_back();  // the comma behind the last
  const auto id = boost::json::serialize(boost::json::string_view(id_));
  body.insert(0, Concat(R"({"connection_id":)", id, R"(,"frames":[)"));
  body += "]}";
  return Responder::Json(boost::beast::http::status::ok, std::move(body));
}

void Poll::Answer(HttpResponse response) {
  Disarm();
  Count(0);  // it is the response's now
  // From here on nothing more is taken, and no page of a replay asked for.
  const auto done = std::exchange(done_, nullptr);
  if (in_hub()) {
    if (!cut_.empty()) context_.hub->OnOverflow(this);
    context_.hub->BeginRest(this);
  }
  done(std::move(response));
}

void Poll::Written(bool whole) {
  Disarm();
  done_ = nullptr;
  if (whole) written_ = told_;
  const bool fault = closed_as() != nullptr && closed_as()->code != CloseCode::kGoingAway &&
                     closed_as()->code != CloseCode::kNormal;
  if (fault || lease_ == std::chrono::milliseconds::zero()) return LeaveHub();
  RestInHub(lease_);
}

}  // namespace clarion::gateway
