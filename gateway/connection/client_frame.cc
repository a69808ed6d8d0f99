#include "gateway/connection/client_frame.h"

#include "gateway/connection/client_frame_check.h"
#include "gateway/connection/client_frame_json.h"

namespace clarion::gateway {
namespace {

bool HasUnknownFields(const google::protobuf::Message& message) {
  const google::protobuf::Reflection* reflection = message.GetReflection();
  if (!reflection->GetUnknownFields(message).empty()) return true;
  std::vector<const google::protobuf::FieldDescriptor*> fields;
  reflection->ListFields(message, &fields);
  for (const google::protobuf::FieldDescriptor* field : fields) {
    if (field->cpp_type() != google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE) continue;
    if (!field->is_repeated()) {
      if (HasUnknownFields(reflection->GetMessage(message, field))) return true;
      continue;
    }
    for (int i = 0; i < reflection->FieldSize(message, field); ++i) {
      if (HasUnknownFields(reflection->GetRepeatedMessage(message, field, i))) return true;
    }
  }
  return false;
}

ClientMessage ParseProto(std::string_view bytes) {
  ClientMessage message;
  if (!message.frame.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    message.frame.Clear();
    message.problem = "not a clarion.v1.ClientFrame";
    return message;
  }
  message.verdict = ClientMessage::Verdict::kValid;
  if (HasUnknownFields(message.frame)) {
    message.verdict = ClientMessage::Verdict::kInvalid;
    message.problem = "the frame has fields that this gateway does not know";
  }
  return message;
}

}  // namespace

ClientMessage ParseClientMessage(Encoding encoding, std::string_view bytes) {
  return Checked(encoding == Encoding::kJson ? ParseClientJson(bytes) : ParseProto(bytes));
}

ClientMessage Checked(ClientMessage message) {
  if (message.verdict != ClientMessage::Verdict::kValid) return message;
  message.problem = ProblemOf(message.frame);
  if (!message.problem.empty()) message.verdict = ClientMessage::Verdict::kInvalid;
  return message;
}

}  // namespace clarion::gateway
