#include "proto/link/memory_link.h"
#include "tests/contract/link_contract.h"

namespace clarion::link {
namespace {

class MemoryHarness : public LinkHarness {
 public:
  MemoryHarness(FakeService* service, const LinkBounds& bounds)
      : service_(service), bounds_(bounds) {}
  std::unique_ptr<Link> MakeLink(boost::asio::io_context& loop) override {
    return MakeMemoryLink(loop, service_,
                          {.live_bytes = bounds_.live_bytes,
                           .control_messages = bounds_.control_messages,
                           .displaced_first = bounds_.displaced_first});
  }

 private:
  FakeService* const service_;
  const LinkBounds bounds_;
};

std::unique_ptr<LinkHarness> Make(FakeService* service, const LinkBounds& bounds) {
  return std::make_unique<MemoryHarness>(service, bounds);
}

INSTANTIATE_TEST_SUITE_P(Memory, LinkContractTest, testing::Values(&Make));

// Over gRPC the bound cannot be met exactly: what the transport has taken does not count.
class MemoryLinkTest : public LinkContractTest {};
INSTANTIATE_TEST_SUITE_P(Memory, MemoryLinkTest, testing::Values(&Make));

TEST_P(MemoryLinkTest, ClosesWithBufferOverflowWhenTheRoomForControlIsExhausted) {
  Begin({.control_messages = 10});
  for (uint64_t i = 0; i < 11; ++i) service_.attachment()->SendControl(Control(i));
  Until([this] { return service_.detached().size() == 1; });
  EXPECT_EQ(ReasonOf(service_.detached()[0]), Reason::kBufferOverflow);
  Until([this] { return sink_.ups == 2; });
}

TEST_P(MemoryLinkTest, SharesTheEventsAndCopiesNoBytes) {
  Begin();
  const Live live = LiveOf(1, 1);
  service_.attachment()->SendLive(live);
  Until([this] { return !sink_.received.empty(); });
  EXPECT_EQ(std::get<Live>(sink_.received[0]).events[0], live.events[0]);
}

}  // namespace
}  // namespace clarion::link
