#include "gateway/http/responder.h"

#include <filesystem>
#include <fstream>
#include <set>

#include "boost/beast/http/field.hpp"
#include "boost/json/parse.hpp"
#include "boost/json/value.hpp"
#include "gateway/http/subprotocol.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace clarion::gateway {
namespace {

namespace http = boost::beast::http;
using ::testing::HasSubstr;

constexpr const char* kSecret = "thirty-two bytes of secret, or more than that";

class ResponderTest : public ::testing::Test {
 protected:
  static HttpRequest Get(const std::string& target, http::verb verb = http::verb::get) {
    HttpRequest request(verb, target, 11);
    request.set(http::field::host, "localhost:7710");
    return request;
  }
  static HttpRequest Upgrade(const std::string& protocol = "clarion.v1.json") {
    HttpRequest request = Get("/v1/stream");
    request.set(http::field::connection, "Upgrade");
    request.set(http::field::upgrade, "websocket");
    request.set(http::field::sec_websocket_version, "13");
    request.set(http::field::sec_websocket_key, "dGhlIHNhbXBsZSBub25jZQ==");
    if (!protocol.empty()) request.set(http::field::sec_websocket_protocol, protocol);
    return request;
  }
  HttpResponse Answer(const HttpRequest& request, From from = From::kLoopback) const {
    return responder_.Respond(request, from, now_);
  }
  static std::string Code(const HttpResponse& response) {
    return std::string(boost::json::parse(response.body()).at("code").as_string());
  }
  // 0: granted.
  unsigned Refusal(const HttpRequest& request, const Responder& responder) const {
    Encoding encoding = Encoding::kJson;
    const auto refusal = responder.RefuseUpgrade(request, &encoding);
    return refusal ? refusal->result_int() : 0;
  }
  unsigned Refusal(const HttpRequest& request) const { return Refusal(request, responder_); }

  const std::chrono::system_clock::time_point now_{std::chrono::seconds(1'790'000'000)};
  const Responder responder_{{.dev = true, .tokens = {.secret = kSecret}}};
};

TEST_F(ResponderTest, PageIsServedWithItsTypesAndPolicy) {
  const HttpResponse page = Answer(Get("/"));
  EXPECT_EQ(page.result(), http::status::ok);
  EXPECT_EQ(page[http::field::content_type], "text/html; charset=utf-8");
  EXPECT_EQ(page["X-Content-Type-Options"], "nosniff");
  EXPECT_EQ(page[http::field::cache_control], "no-cache");
  EXPECT_THAT(std::string(page["Content-Security-Policy"]), HasSubstr("default-src 'none'"));
  EXPECT_EQ(Answer(Get("/index.html")).body(), page.body());
  EXPECT_EQ(Answer(Get("/?x=1")).body(), page.body());
  EXPECT_EQ(Answer(Get("/console.js"))[http::field::content_type],
            "text/javascript; charset=utf-8");
  EXPECT_EQ(Answer(Get("/console.css"))[http::field::content_type], "text/css; charset=utf-8");
}

TEST_F(ResponderTest, BuiltInPageHasEveryFileOfItsFolder) {
  const std::filesystem::path folder(CLARION_PAGE_DIR);
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    const std::string path = "/" + entry.path().lexically_relative(folder).generic_string();
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string content((std::istreambuf_iterator<char>(file)),
                              std::istreambuf_iterator<char>());
    EXPECT_EQ(Answer(Get(path)).body(), content)
        << path << " is missing in gateway/web/CMakeLists.txt";
  }
}

TEST_F(ResponderTest, PagesOfAllowedOriginsMayLoadTheClient) {
  HttpRequest request = Get("/client/index.js");
  request.set(http::field::origin, "https://app.example");
  EXPECT_EQ(Answer(request)[http::field::access_control_allow_origin], "");
  const Responder open{{.origins = *OriginPolicy::Create({"https://app.example"})}};
  const HttpResponse file = open.Respond(request, From::kLoopback, now_);
  EXPECT_EQ(file.result(), http::status::ok);
  EXPECT_EQ(file[http::field::access_control_allow_origin], "https://app.example");
}

TEST_F(ResponderTest, UnchangedFileIsNotSentAgain) {
  HttpRequest again = Get("/");
  again.set(http::field::if_none_match, Answer(Get("/"))[http::field::etag]);
  EXPECT_EQ(Answer(again).result(), http::status::not_modified);
  EXPECT_EQ(Answer(again).body(), "");
}

TEST_F(ResponderTest, WhatIsNotThereIs404WithAReason) {
  for (const char* target :
       {"/nothing", "/../etc/passwd", "/%2e%2e/", "//", "*", "http://elsewhere/", "/v1", ""}) {
    const HttpResponse response = Answer(Get(target));
    EXPECT_EQ(response.result(), http::status::not_found) << target;
    EXPECT_EQ(Code(response), "NOT_FOUND");
  }
}

TEST_F(ResponderTest, OtherMethodsAre405) {
  const HttpResponse response = Answer(Get("/", http::verb::post));
  EXPECT_EQ(response.result(), http::status::method_not_allowed);
  EXPECT_EQ(response[http::field::allow], "GET, HEAD");
}

TEST_F(ResponderTest, HealthAnswers) {
  EXPECT_EQ(Answer(Get("/healthz")).body(), "ok\n");
}

TEST_F(ResponderTest, StreamWithoutUpgradeIs426) {
  EXPECT_FALSE(Responder::IsUpgrade(Get("/v1/stream")));
  EXPECT_EQ(Answer(Get("/v1/stream")).result(), http::status::upgrade_required);
}

TEST_F(ResponderTest, DevelopmentTokenIsOneThatCounts) {
  const HttpResponse response = Answer(Get("/v1/dev/token?user=ada%2Bx"));
  ASSERT_EQ(response.result(), http::status::ok);
  EXPECT_EQ(response[http::field::cache_control], "no-store");
  const boost::json::value answer = boost::json::parse(response.body());
  EXPECT_EQ(answer.at("expires_at").as_string(), "2026-09-22T02:13:20Z");
  const auto verifier = TokenVerifier::Create({.secret = kSecret});
  const auto token = (*verifier)->Verify(std::string(answer.at("token").as_string()), now_);
  ASSERT_TRUE(token.ok()) << token.status();
  EXPECT_EQ(token->user, UserId("ada+x"));
  // Reserved is one name, not what begins with it.
  EXPECT_EQ(Answer(Get("/v1/dev/token?user=_clarion.x")).result(), http::status::ok);
}

TEST_F(ResponderTest, DevelopmentTokenIsNotForOthers) {
  const HttpRequest request = Get("/v1/dev/token?user=ada");
  EXPECT_EQ(Answer(request, From::kElsewhere).result(), http::status::not_found);
  const Responder without_dev({.tokens = {.secret = kSecret}});
  EXPECT_EQ(without_dev.Respond(request, From::kLoopback, now_).result(), http::status::not_found);
  // A page of another site whose name was pointed at 127.0.0.1.
  HttpRequest rebound = request;
  rebound.set(http::field::host, "evil.example:7710");
  EXPECT_EQ(Answer(rebound).result(), http::status::not_found);
}

TEST_F(ResponderTest, DevelopmentTokenIsRefusedWithWhatIsWrongWithTheUser) {
  const std::string target = "/v1/dev/token";
  const auto message = [&](const std::string& query) {
    const HttpResponse response = Answer(Get(target + query));
    EXPECT_EQ(response.result(), http::status::bad_request) << query;
    EXPECT_EQ(Code(response), "CONTEXT_INVALID") << query;
    return std::string(boost::json::parse(response.body()).at("message").as_string());
  };
  for (const char* query : {"", "?", "?name=ada"}) {
    EXPECT_THAT(message(query), HasSubstr("`user` is missing")) << query;
  }
  for (const std::string& query :
       {std::string("?user="), std::string("?user=a%20b"), std::string("?user=%C3%A9"),
        std::string("?user"), "?user=" + std::string(129, 'x')}) {
    EXPECT_THAT(message(query), HasSubstr("1 to 128 bytes of printable ASCII without spaces"))
        << query;
  }
  for (const char* query : {"?user=_clarion", "?user=%5Fclarion"}) {
    EXPECT_THAT(message(query), HasSubstr("_clarion: that name is reserved")) << query;
  }
  EXPECT_THAT(message("?user=%zz"), HasSubstr("malformed"));
  EXPECT_THAT(message("?user=ada&user=eve"), HasSubstr("more than once"));
}

TEST_F(ResponderTest, UpgradeIsGrantedInTheFirstSubprotocolThatIsServed) {
  EXPECT_TRUE(Responder::IsUpgrade(Upgrade()));
  EXPECT_EQ(Refusal(Upgrade()), 0u);
  EXPECT_EQ(Refusal(Upgrade("")), 0u);
  EXPECT_EQ(Refusal(Upgrade("chat")), 400u);
  EXPECT_EQ(NegotiateSubprotocol(""), Encoding::kJson);
  EXPECT_EQ(NegotiateSubprotocol("x, clarion.v1.proto ,clarion.v1.json"), Encoding::kProto);
  EXPECT_EQ(NegotiateSubprotocol("clarion.v1.json,clarion.v1.proto"), Encoding::kJson);
  EXPECT_EQ(NegotiateSubprotocol("clarion.v2.json"), std::nullopt);
}

TEST_F(ResponderTest, UpgradeOfAnotherVersionOrWithoutAKeyIsRefused) {
  HttpRequest old = Upgrade();
  old.set(http::field::sec_websocket_version, "8");
  EXPECT_EQ(Refusal(old), 426u);
  HttpRequest keyless = Upgrade();
  keyless.erase(http::field::sec_websocket_key);
  EXPECT_EQ(Refusal(keyless), 400u);
  HttpRequest long_key = Upgrade();
  long_key.set(http::field::sec_websocket_key, std::string(5000, 'A'));
  EXPECT_EQ(Refusal(long_key), 400u);
}

TEST_F(ResponderTest, ForeignOriginIsRefused) {
  const auto from = [](const std::string& origin) {
    HttpRequest request = Upgrade();
    request.set(http::field::origin, origin);
    return request;
  };
  EXPECT_EQ(Refusal(from("http://localhost:7710")), 0u);
  EXPECT_EQ(Refusal(from("https://LOCALHOST:7710")), 0u);
  for (const char* origin :
       {"http://localhost", "http://localhost:7711", "http://evil.example", "null",
        "http://evil.example/http://localhost:7710", "localhost:7710"}) {
    EXPECT_EQ(Refusal(from(origin)), 403u) << origin;
  }
  const Responder listed({.origins = *OriginPolicy::Create({"https://App.example"})});
  EXPECT_EQ(Refusal(from("https://app.example"), listed), 0u);
  EXPECT_EQ(Refusal(from("http://app.example"), listed), 403u);
  EXPECT_EQ(Refusal(from("http://localhost:7710"), listed), 403u);
  const Responder open({.origins = *OriginPolicy::Create({"*"})});
  EXPECT_EQ(Refusal(from("http://evil.example"), open), 0u);
}

TEST(OriginPolicyTest, OriginsAreComparedAsBrowsersWriteThem) {
  for (const auto& [allowed, sent] : std::vector<std::pair<std::string, std::string>>{
           {"https://app.example", "https://app.example"},
           {"HTTPS://App.Example", "https://app.example"},
           {"https://app.example:443", "https://app.example"},
           {"http://app.example:80", "http://app.example"},
           {"https://app.example:80", "https://app.example:80"},
           {"http://localhost:03000", "http://localhost:3000"},
           {"https://10.0.0.1:8443", "https://10.0.0.1:8443"},
           {"http://[0:0::1]:8080", "http://[::1]:8080"},
           {"http://7zip:8080", "http://7zip:8080"},
           {"chrome-extension://abcdef", "chrome-extension://abcdef"},
           {"capacitor://localhost", "capacitor://localhost"},
           {"*", "https://any.example"}}) {
    const auto policy = OriginPolicy::Create({allowed});
    ASSERT_TRUE(policy.ok()) << policy.status();
    EXPECT_TRUE(policy->Allows(sent, "gateway.example")) << allowed;
    EXPECT_EQ(policy->Allows(sent + "x", "gateway.example"), allowed == "*") << allowed;
  }
}

TEST(OriginPolicyTest, WhatNoBrowserSendsIsRefusedInASentenceThatNamesTheFlag) {
  for (const char* bad : {"",
                          "app.example",
                          "app.example:443",
                          "https:app.example",
                          "//app.example",
                          "https://",
                          "://app.example",
                          "https://app.example/",
                          "https://app.example/path",
                          "https://app.example?x",
                          "https://app.example#x",
                          "https://user@app.example",
                          "https://*.example",
                          "https://app.example:",
                          "https://app.example:0",
                          "https://app.example:65536",
                          "https://app.example:x",
                          "https://app.example,https://b",
                          "https://app example",
                          " https://app.example",
                          "https://b\u00fccher.example",
                          "wss://app.example",
                          "ws://app.example",
                          "file://host",
                          "null",
                          "https://1.2.3",
                          "https://0x7f.1",
                          "https://010.0.0.1",
                          "https://1.2.3.4.",
                          "https://::1",
                          "https://[::1",
                          "https://[::g]",
                          "https://[fe80::1%eth0]",
                          "https://[::ffff:1.2.3.4]",
                          "1http://a",
                          "**"}) {
    const auto policy = OriginPolicy::Create({"https://good.example", bad});
    EXPECT_THAT(std::string(policy.status().message()),
                ::testing::AllOf(HasSubstr("--allowed-origin: '" + std::string(bad) + "'"),
                                 HasSubstr("https://app.example")))
        << bad;
  }
}

TEST(StaticFilesTest, DirectoryIsReadAtStartAndMustHaveAnIndex) {
  char name[] = "/tmp/clarion-page-XXXXXX";
  const std::filesystem::path directory = ::mkdtemp(name);
  auto files = StaticFiles::Load(directory);
  EXPECT_THAT(std::string(files.status().message()), HasSubstr("--web-root"));
  std::ofstream(directory / "index.html") << "hello";
  std::filesystem::create_directory(directory / "sub");
  std::ofstream(directory / "sub" / "a.js") << "1";
  files = StaticFiles::Load(directory);
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(files->Find("/")->content, "hello");
  EXPECT_EQ(files->Find("/sub/a.js")->content, "1");
  EXPECT_EQ(files->Find("/sub"), nullptr);
  EXPECT_EQ(files->Find("/console.js"), nullptr);
  EXPECT_FALSE(files->Find("/")->built_in);
  ASSERT_NE(files->Find("/client/index.js"), nullptr);  // for the page to load
  EXPECT_TRUE(files->Find("/client/index.js")->built_in);
  std::filesystem::remove_all(directory);
  EXPECT_FALSE(StaticFiles::Load(directory).ok());
}

}  // namespace
}  // namespace clarion::gateway
