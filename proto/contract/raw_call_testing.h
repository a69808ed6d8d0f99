// gRPC calls of bytes, for tests of what no generated client sends.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "google/protobuf/message.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "grpcpp/completion_queue.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/support/byte_buffer.h"

namespace clarion {

// Longer than any of these calls takes.
inline std::chrono::system_clock::time_point RawDeadline() {
  return std::chrono::system_clock::now() + std::chrono::seconds(20);
}

inline grpc::ByteBuffer RawBytes(std::string_view bytes) {
  const grpc::Slice slice(bytes.data(), bytes.size());
  return grpc::ByteBuffer(&slice, 1);
}

// A call of many messages each way, one step at a time.
class RawStream {
 public:
  // `method`: "/package.Service/Method".
  RawStream(const std::shared_ptr<grpc::Channel>& channel, const std::string& method)
      : stub_(channel) {
    context_.set_deadline(RawDeadline());
    call_ = stub_.PrepareCall(&context_, method, &queue_);
    call_->StartCall(nullptr);
    Step();
  }
  // False: the call has ended.
  bool Write(std::string_view bytes) {
    call_->Write(RawBytes(bytes), nullptr);
    return Step();
  }
  bool WritesDone() {
    call_->WritesDone(nullptr);
    return Step();
  }
  // False: there is nothing more.
  bool Read(google::protobuf::Message* message) {
    grpc::ByteBuffer bytes;
    call_->Read(&bytes, nullptr);
    grpc::Slice slice;
    return Step() && bytes.DumpToSingleSlice(&slice).ok() &&
           message->ParseFromArray(slice.begin(), static_cast<int>(slice.size()));
  }
  // After everything was read.
  grpc::Status Finish() {
    grpc::Status status;
    call_->Finish(&status, nullptr);
    Step();
    return status;
  }

 private:
  bool Step() {
    void* tag = nullptr;
    bool ok = false;
    return queue_.Next(&tag, &ok) && ok;
  }

  grpc::GenericStub stub_;
  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;
};

// How a call of one message that is refused ends.
inline grpc::Status RawCall(const std::shared_ptr<grpc::Channel>& channel,
                            const std::string& method, std::string_view bytes) {
  RawStream call(channel, method);
  call.Write(bytes);
  call.WritesDone();
  return call.Finish();
}

}  // namespace clarion
