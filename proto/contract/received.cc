#include "proto/contract/received.h"

#include <string>
#include <string_view>

#include "google/protobuf/descriptor.h"
#include "grpcpp/support/proto_buffer_reader.h"
#include "grpcpp/support/slice.h"
#include "proto/base/text.h"
#include "proto/contract/error.h"
#include "proto/contract/wire_fault.h"

namespace clarion {
namespace {

absl::Status NoMessage(const grpc::ByteBuffer& bytes, const google::protobuf::Message& message) {
  const auto& type = *message.GetDescriptor();
  grpc::Slice slice;
  std::optional<FieldViolation> fault;
  if (bytes.DumpToSingleSlice(&slice).ok()) {
    fault = FindWireFault(type, {reinterpret_cast<const char*>(slice.begin()), slice.size()});
  }
  return MakeBadRequest(
      {fault.value_or(FieldViolation{"", Concat("the bytes are no ", type.full_name())})});
}

absl::Status Parse(grpc::ByteBuffer* bytes, google::protobuf::Message* message) {
  if (bytes->Length() > kMaxRequestBytes) {
    return MakeError(Reason::kBufferOverflow, Concat("the message is ", bytes->Length(),
                                                     " bytes; at most ", kMaxRequestBytes));
  }
  grpc::ProtoBufferReader reader(bytes);
  if (reader.status().ok() && message->ParseFromZeroCopyStream(&reader)) return absl::OkStatus();
  return NoMessage(*bytes, *message);
}

}  // namespace

absl::Status ParseRequest(grpc::ByteBuffer* bytes, google::protobuf::Message* message) {
  absl::Status status = Parse(bytes, message);
  bytes->Clear();
  return status;
}

int MethodIndex(const char* service, const char* method) {
  const auto* pool = google::protobuf::DescriptorPool::generated_pool();
  return pool->FindServiceByName(service)->FindMethodByName(method)->index();
}

}  // namespace clarion
