// What clarionctl prints: tables for people, JSON for machines, errors that say what to do.
#pragma once

#include <initializer_list>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "google/protobuf/duration.pb.h"
#include "google/protobuf/message.h"
#include "google/protobuf/timestamp.pb.h"
#include "service/ctl/program.h"

namespace clarion::ctl {

// Text of a peer, for a terminal: what is no UTF-8 and control characters become `?`.
std::string Printable(std::string text);

// Columns as wide as their widest cell, printable.
class Table {
 public:
  explicit Table(std::vector<std::string> header);
  void Add(std::vector<std::string> row);
  bool empty() const { return rows_.size() == 1; }
  void Print(std::ostream& out) const;

 private:
  std::vector<std::vector<std::string>> rows_;  // the first is the header
};

// A message as the contract writes JSON: the proto's field names, enums lower_snake without their
// prefix, integers as numbers, times RFC 3339, an Event as browsers get it; absent fields left out.
std::string ToJson(const google::protobuf::Message& message);

// `succeeded` for TOOL_STATUS_SUCCEEDED.
std::string EnumText(const google::protobuf::EnumDescriptor& type, int value);
// RFC 3339; `-` if absent.
std::string TimeText(bool present, const google::protobuf::Timestamp& time);
std::string PositionText(std::string_view epoch, uint64_t offset);

// Several lines: what failed, the reason, what it is about, which fields, what to do.
std::string DescribeError(const absl::Status& status, const Globals& globals);
// Prints that to standard error, answers the exit code: kUnreachable when no Clarion answered.
int ReportError(const absl::Status& status, const Globals& globals);
ExitCode ExitCodeOf(const absl::Status& status);

}  // namespace clarion::ctl
