#include "proto/contract/error.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/base/text.h"

namespace clarion {
namespace {

using std::chrono::milliseconds;
using testing::SizeIs;

const ErrorContext kContext = {.user_id = "ada",
                               .thread_id = "t1",
                               .run_id = "r1",
                               .operation = "Publish",
                               .trace_id = "4bf9",
                               .cause = "disk"};

TEST(Error, CarriesTheReasonsCodeAndWhatItIsAbout) {
  const absl::Status status = MakeError(Reason::kThreadOwnership, "not yours", kContext);
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(status.message(), "not yours");
  EXPECT_EQ(ReasonOf(status), Reason::kThreadOwnership);
  const ErrorContext context = ContextOf(status);
  EXPECT_EQ(context.user_id, "ada");
  EXPECT_EQ(context.thread_id, "t1");
  EXPECT_EQ(context.run_id, "r1");
  EXPECT_EQ(context.operation, "Publish");
  EXPECT_EQ(context.trace_id, "4bf9");
  EXPECT_EQ(context.cause, "disk");
}

TEST(Error, SurvivesTheWayOverGrpcForEveryReason) {
  for (const ReasonRow& row : kReasons) {
    const auto sent = WithDebug(
        WithRetryAfter(MakeError(row.reason, "text", kContext), milliseconds(1250)), "chain");
    const absl::Status received = FromGrpc(ToGrpc(sent));
    EXPECT_EQ(received, sent) << row.name;
    EXPECT_EQ(ReasonOf(received), row.reason);
    EXPECT_EQ(received.code(), row.code);
    EXPECT_EQ(ContextOf(received).cause, "disk");
    EXPECT_EQ(RetryAfterOf(received), milliseconds(1250));
  }
}

TEST(Error, IsGoogleRpcStatusOnTheWire) {
  const grpc::Status sent = ToGrpc(MakeBadRequest({{"event.run_id", "is required"}}, kContext));
  EXPECT_EQ(sent.error_code(), grpc::StatusCode::INVALID_ARGUMENT);

  v1::RpcStatus details;
  ASSERT_TRUE(details.ParseFromString(sent.error_details()));
  EXPECT_EQ(details.code(), 3);
  EXPECT_EQ(details.message(), sent.error_message());
  ASSERT_THAT(details.details(), SizeIs(2));
  EXPECT_EQ(details.details(0).type_url(), "type.googleapis.com/google.rpc.ErrorInfo");
  EXPECT_EQ(details.details(1).type_url(), "type.googleapis.com/google.rpc.BadRequest");

  v1::ErrorInfo info;
  ASSERT_TRUE(info.ParseFromString(details.details(0).value()));
  EXPECT_EQ(info.domain(), "clarion");
  EXPECT_EQ(info.reason(), "CONTEXT_INVALID");
  EXPECT_EQ(info.metadata().at("thread_id"), "t1");
}

TEST(Error, KeepsAtMostSixteenViolationsAndSaysHowManyThereWere) {
  std::vector<FieldViolation> violations;
  violations.reserve(20);
  for (int i = 0; i < 20; ++i) violations.push_back({Concat("field", i), "is wrong"});
  const absl::Status status = MakeBadRequest(violations);
  EXPECT_THAT(ViolationsOf(status), SizeIs(16));
  EXPECT_EQ(ViolationsOf(status)[15].field, "field15");
  EXPECT_EQ(status.message(), "field0: is wrong (and 19 more)");
}

TEST(Error, StaysBelowWhatGrpcClientsTakeWhateverGoesIn) {
  const std::string huge(100'000, 'x');
  const ErrorContext context = {huge, huge, huge, huge, huge, huge};
  const std::vector<FieldViolation> violations(16, FieldViolation{huge, huge});
  for (const absl::Status& status :
       {MakeBadRequest(violations, context),
        WithDebug(MakeError(Reason::kSendFailed, huge, context), huge)}) {
    const grpc::Status sent = ToGrpc(status);
    EXPECT_LT(sent.error_details().size() * 4 / 3 + sent.error_message().size(), 8000u);
  }
}

TEST(Error, ReplacesBytesThatAreNotUtf8) {
  const absl::Status status = MakeError(Reason::kNotFound,
                                        "a\xff"
                                        "b",
                                        {.cause = "\xc3"});
  EXPECT_EQ(status.message(), "a?b");
  EXPECT_EQ(ContextOf(FromGrpc(ToGrpc(status))).cause, "?");
}

TEST(Error, WithContextFillsOnlyWhatIsNotSaid) {
  const auto status =
      WithContext(MakeError(Reason::kNotFound, "no", {.thread_id = "inner"}), kContext);
  EXPECT_EQ(ReasonOf(status), Reason::kNotFound);
  EXPECT_EQ(ContextOf(status).thread_id, "inner");
  EXPECT_EQ(ContextOf(status).user_id, "ada");
}

TEST(Error, WithContextGivesAStatusWithoutReasonTheOtherwiseReason) {
  const auto status = WithContext(absl::InternalError("disk full"), {.operation = "Publish"});
  EXPECT_EQ(ReasonOf(status), Reason::kLogUnavailable);
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(status.message(), "disk full");
  EXPECT_EQ(ContextOf(status).cause, "INTERNAL");
}

TEST(Error, WithContextNamesTheOuterOperationAndKeepsTheInnerWithTheCause) {
  const auto status = WithContext(
      MakeError(Reason::kLogUnavailable, "no", {.operation = "write", .cause = "disk full"}),
      kContext);
  EXPECT_EQ(ContextOf(status).operation, "Publish");
  EXPECT_EQ(ContextOf(status).cause, "write: disk full");
  EXPECT_EQ(ContextOf(WithContext(status, kContext)).cause, "write: disk full");
}

TEST(Error, WithContextAddsNoCauseForAnInnerOperation) {
  const auto status = WithContext(MakeError(Reason::kNotFound, "no", {.operation = "Find"}),
                                  {.operation = "GetEvent"});
  EXPECT_EQ(ContextOf(status).operation, "GetEvent");
  EXPECT_EQ(ContextOf(status).cause, "");
}

TEST(Error, WithPlaceSaysItBeforeTheMessageAndKeepsTheDetails) {
  const auto status = WithPlace(MakeBadRequest({{"f", "is wrong"}}), "message 3");
  EXPECT_EQ(status.message(), "message 3: f: is wrong");
  EXPECT_EQ(ReasonOf(status), Reason::kContextInvalid);
  EXPECT_THAT(ViolationsOf(status), SizeIs(1));
}

TEST(Error, AddingDetailsKeepsViolations) {
  const auto status =
      WithContext(WithRetryAfter(MakeBadRequest({{"f", "is wrong"}}), milliseconds(5)), kContext);
  EXPECT_THAT(ViolationsOf(status), SizeIs(1));
  EXPECT_EQ(RetryAfterOf(status), milliseconds(5));
  EXPECT_EQ(ContextOf(status).run_id, "r1");
}

TEST(Error, OkStaysOk) {
  EXPECT_TRUE(WithContext(absl::OkStatus(), kContext).ok());
  EXPECT_TRUE(WithRetryAfter(absl::OkStatus(), milliseconds(1)).ok());
  EXPECT_TRUE(WithPlace(absl::OkStatus(), "here").ok());
  EXPECT_TRUE(ToGrpc(absl::OkStatus()).ok());
  EXPECT_TRUE(FromGrpc(grpc::Status::OK).ok());
  EXPECT_EQ(ReasonOf(absl::OkStatus()), std::nullopt);
}

TEST(Error, AStatusNotMadeHereHasNoReason) {
  EXPECT_EQ(ReasonOf(absl::UnavailableError("down")), std::nullopt);
  const absl::Status received =
      FromGrpc(grpc::Status(grpc::StatusCode::UNAVAILABLE, "down", "not a message \xff\xff"));
  EXPECT_EQ(received.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(received.message(), "down");
  EXPECT_EQ(ReasonOf(received), std::nullopt);
}

TEST(Error, AnotherDomainsErrorHasNoReason) {
  v1::ErrorInfo info;
  info.set_domain("googleapis.com");
  info.set_reason("NOT_FOUND");
  v1::RpcStatus rpc;
  auto* any = rpc.add_details();
  any->set_type_url("type.googleapis.com/google.rpc.ErrorInfo");
  any->set_value(info.SerializeAsString());
  const auto received =
      FromGrpc(grpc::Status(grpc::StatusCode::NOT_FOUND, "no", rpc.SerializeAsString()));
  EXPECT_EQ(ReasonOf(received), std::nullopt);
}

}  // namespace
}  // namespace clarion
