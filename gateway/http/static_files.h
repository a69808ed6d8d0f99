// The page: a handful of files held in memory, compiled in or read from a directory at start-up.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace clarion::gateway {

struct StaticFile {
  std::string content;
  std::string_view type;  // Content-Type
  std::string etag;       // of the content, in quotes
  bool built_in;          // of our page, which needs nothing from elsewhere and nothing inline
};

// A file as the build embeds it.
struct EmbeddedFile {
  std::string_view name;
  std::string_view content;
};
std::span<const EmbeddedFile> EmbeddedPage();  // generated

// Immutable; any thread.
class StaticFiles {
 public:
  // The page that is compiled in.
  StaticFiles();
  // Every file below `directory`, at most 1,000 and 64 MiB, and the built-in /client/. The error
  // names
  // --web-root.
  static absl::StatusOr<StaticFiles> Load(const std::string& directory);

  // By the path of a request, "/" being "/index.html". Null: there is none.
  const StaticFile* Find(std::string_view path) const;

 private:
  void Add(std::string path, std::string content, bool built_in);

  std::map<std::string, StaticFile, std::less<>> files_;
};

}  // namespace clarion::gateway
