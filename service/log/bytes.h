// Writing and reading of the bytes on disk: varints (LEB128), length-prefixed strings, times,
// digests. What the records look like is in FORMAT.md.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "service/log/log.h"

namespace clarion::log {

// Appends to `out`, which outlives it.
class ByteWriter {
 public:
  explicit ByteWriter(std::string* out) : out_(out) {}

  void Byte(uint8_t value) { out_->push_back(static_cast<char>(value)); }
  void Varint(uint64_t value) {
    while (value >= 0x80) {
      Byte(static_cast<uint8_t>(value | 0x80));
      value >>= 7;
    }
    Byte(static_cast<uint8_t>(value));
  }
  void Fixed64(uint64_t value) {
    char bytes[8];
    for (int i = 0; i < 8; ++i) bytes[i] = static_cast<char>(value >> (8 * i));
    out_->append(bytes, sizeof bytes);
  }
  void Raw(std::string_view bytes) { out_->append(bytes); }
  void String(std::string_view bytes) {
    Varint(bytes.size());
    Raw(bytes);
  }
  void Time(WallTime time) { Varint(static_cast<uint64_t>(time.time_since_epoch().count())); }
  void Digest128(const Digest& digest) {
    Fixed64(digest.low);
    Fixed64(digest.high);
  }

 private:
  std::string* out_;
};

// Reads what ByteWriter wrote. After a read beyond the end everything reads as zero or empty and
// ok() is false, so a record is checked once, at its end.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : rest_(bytes) {}

  bool ok() const { return ok_; }
  bool done() const { return rest_.empty() || !ok_; }
  size_t left() const { return rest_.size(); }

  uint8_t Byte() {
    if (rest_.empty()) return Fail();
    const auto value = static_cast<uint8_t>(rest_.front());
    rest_.remove_prefix(1);
    return value;
  }
  uint64_t Varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const uint8_t byte = Byte();
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if ((byte & 0x80) == 0) return value;
    }
    return Fail();
  }
  uint64_t Fixed64() {
    const std::string_view bytes = Raw(8);
    if (bytes.empty()) return 0;
    uint64_t value = 0;
    for (int i = 0; i < 8; ++i)
      value |= static_cast<uint64_t>(static_cast<uint8_t>(bytes[i])) << (8 * i);
    return value;
  }
  // Points into the bytes given.
  std::string_view Raw(uint64_t size) {
    if (size > rest_.size()) {
      Fail();
      return {};
    }
    const std::string_view bytes = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return bytes;
  }
  std::string_view String() { return Raw(Varint()); }
  WallTime Time() { return WallTime(std::chrono::milliseconds(static_cast<int64_t>(Varint()))); }
  Digest Digest128() {
    Digest digest;
    digest.low = Fixed64();
    digest.high = Fixed64();
    return digest;
  }

  // For what only the caller can tell to be wrong.
  uint8_t Fail() {
    ok_ = false;
    rest_ = {};
    return 0;
  }

 private:
  std::string_view rest_;
  bool ok_ = true;
};

}  // namespace clarion::log
