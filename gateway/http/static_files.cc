#include "gateway/http/static_files.h"

#include <array>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/status/status.h"
#include "proto/base/text.h"

namespace clarion::gateway {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxFiles = 1'000;
constexpr size_t kMaxBytes = 64 * 1024 * 1024;

constexpr std::array<std::pair<std::string_view, std::string_view>, 13> kTypes = {{
    {".html", "text/html; charset=utf-8"},
    {".js", "text/javascript; charset=utf-8"},
    {".mjs", "text/javascript; charset=utf-8"},
    {".css", "text/css; charset=utf-8"},
    {".svg", "image/svg+xml"},
    {".json", "application/json"},
    {".map", "application/json"},
    {".png", "image/png"},
    {".ico", "image/x-icon"},
    {".woff2", "font/woff2"},
    {".webmanifest", "application/manifest+json"},
    {".wasm", "application/wasm"},
    {".txt", "text/plain; charset=utf-8"},
}};

std::string_view TypeOfPath(std::string_view path) {
  for (const auto& [suffix, type] : kTypes) {
    if (path.ends_with(suffix)) return type;
  }
  return "application/octet-stream";
}

// FNV-1a: tells versions of a file apart, nothing more.
std::string EtagOf(std::string_view content) {
  uint64_t hash = 0xcbf29ce484222325;
  for (char c : content) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  char text[20];
  std::snprintf(text, sizeof text, "\"%016llx\"", static_cast<unsigned long long>(hash));
  return text;
}

absl::Status WebRootError(const std::string& what) {
  return absl::InvalidArgumentError("--web-root: " + what);
}

}  // namespace

StaticFiles::StaticFiles() {
  for (const EmbeddedFile& file : EmbeddedPage()) {
    Add(Concat("/", file.name), std::string(file.content), true);
  }
}

absl::StatusOr<StaticFiles> StaticFiles::Load(const std::string& directory) {
  StaticFiles files;
  // The client stays: a page of one's own loads it from here.
  std::erase_if(files.files_, [](const auto& file) { return !file.first.starts_with("/client/"); });
  size_t bytes = 0;
  std::error_code error;
  fs::recursive_directory_iterator entry(directory, error);
  for (; !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    if (!entry->is_regular_file(error)) continue;
    std::ifstream file(entry->path(), std::ios::binary);
    std::string content((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    if (!file) return WebRootError("cannot read " + entry->path().string());
    bytes += content.size();
    if (files.files_.size() >= kMaxFiles || bytes > kMaxBytes) {
      return WebRootError(directory + " has more than 1,000 files or 64 MiB");
    }
    files.Add(Concat("/", entry->path().lexically_relative(directory).generic_string()),
              std::move(content), false);
  }
  if (error) return WebRootError("cannot read " + directory + ": " + error.message());
  if (files.Find("/") == nullptr) return WebRootError(directory + " has no index.html");
  return files;
}

const StaticFile* StaticFiles::Find(std::string_view path) const {
  const auto found = files_.find(path == "/" ? std::string_view("/index.html") : path);
  return found == files_.end() ? nullptr : &found->second;
}

void StaticFiles::Add(std::string path, std::string content, bool built_in) {
  const std::string_view type = TypeOfPath(path);
  std::string etag = EtagOf(content);
  files_.insert_or_assign(std::move(path),
                          StaticFile{std::move(content), type, std::move(etag), built_in});
}

}  // namespace clarion::gateway
