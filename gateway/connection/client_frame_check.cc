#include "gateway/connection/client_frame_check.h"

#include <string_view>

#include "gateway/connection/client_frame.h"
#include "proto/contract/ids.h"
#include "proto/contract/limits.h"

namespace clarion::gateway {
namespace {

constexpr size_t kMaxFrameIdBytes = 128;
constexpr size_t kMaxTokenBytes = 8 * 1024;
constexpr size_t kMaxClientBytes = 256;

std::string TokenProblem(const std::string& token) {
  if (token.empty()) return "token is required";
  if (token.size() > kMaxTokenBytes) return "token is longer than 8 KiB";
  return "";
}

std::string PositionProblem(const std::string& path, const std::string& epoch, uint64_t offset) {
  if (epoch.empty() && offset > 0) return path + ".epoch is required with an offset above 0";
  if (!epoch.empty() && !ValidId(epoch)) return path + ".epoch is not an epoch";
  return "";
}

std::string ThreadProblem(const std::string& thread_id) {
  return ValidId(thread_id) ? "" : "thread_id must be 1 to 128 bytes of printable ASCII";
}

// A subscription names one thread, or all of them.
std::string TargetProblem(const std::string& thread_id, bool all) {
  if (all) return thread_id.empty() ? "" : "thread_id and all exclude each other";
  return ThreadProblem(thread_id);
}

std::string SubscribeProblem(const v1::Subscribe& subscribe) {
  if (auto problem = TargetProblem(subscribe.thread_id(), subscribe.all()); !problem.empty()) {
    return problem;
  }
  if (subscribe.all() && subscribe.has_after())
    return "with all, positions go on, not one position";
  if (!subscribe.all() && subscribe.positions_size() > 0) return "positions go with all";
  if (static_cast<size_t>(subscribe.positions_size()) > kMaxPositions)
    return "more than 1,024 positions";
  if (subscribe.from() != v1::START_FROM_UNSPECIFIED) {
    if (subscribe.all()) return "with all, positions go on, not from";
    if (subscribe.has_after()) return "after and from exclude each other";
  }
  if (!v1::StartFrom_IsValid(subscribe.from())) return "from has an unknown value";
  if (!v1::History_IsValid(subscribe.history())) return "history has an unknown value";
  if (subscribe.has_after()) {
    return PositionProblem("after", subscribe.after().epoch(), subscribe.after().offset());
  }
  for (const v1::ThreadPosition& position : subscribe.positions()) {
    if (auto problem = ProblemOf("after", position); !problem.empty()) return problem;
  }
  return "";
}

std::string ConnectProblem(const v1::Connect& connect) {
  if (connect.protocol() != kProtocol) return "protocol must be 1";
  if (connect.client().size() > kMaxClientBytes) return "client is longer than 256 bytes";
  // A token that is missing or wrong has an answer of its own: 4401.
  for (int i = 0; i < connect.subscribe_size(); ++i) {
    if (auto problem = SubscribeProblem(connect.subscribe(i)); !problem.empty()) {
      return "subscribe[" + std::to_string(i) + "]: " + problem;
    }
  }
  return "";
}

std::string AckProblem(const v1::Ack& ack) {
  if (auto problem = ThreadProblem(ack.thread_id()); !problem.empty()) return problem;
  if (!ValidId(ack.epoch())) return "epoch is required";
  return "";
}

}  // namespace

std::string ProblemOf(const std::string& path, const v1::ThreadPosition& position) {
  if (!ValidId(position.thread_id())) return path + " has a position without a valid thread_id";
  return PositionProblem(path, position.epoch(), position.offset());
}

std::string ProblemOf(v1::ClientFrame& frame) {
  if (frame.id().size() > kMaxFrameIdBytes) {
    frame.clear_id();
    return "id is longer than 128 bytes";
  }
  switch (frame.frame_case()) {
    case v1::ClientFrame::kConnect:
      return ConnectProblem(frame.connect());
    case v1::ClientFrame::kSubscribe:
      return SubscribeProblem(frame.subscribe());
    case v1::ClientFrame::kUnsubscribe:
      return TargetProblem(frame.unsubscribe().thread_id(), frame.unsubscribe().all());
    case v1::ClientFrame::kAck:
      return AckProblem(frame.ack());
    case v1::ClientFrame::kRefresh:
      return TokenProblem(frame.refresh().token());
    case v1::ClientFrame::kProbeReply:
      return frame.probe_reply().nonce().size() > kMaxIdBytes ? "nonce is longer than 128 bytes"
                                                              : "";
    case v1::ClientFrame::kPong:
    case v1::ClientFrame::kRunInput:
      return "";
    case v1::ClientFrame::FRAME_NOT_SET:
      break;
  }
  return "the frame says nothing";
}

}  // namespace clarion::gateway
