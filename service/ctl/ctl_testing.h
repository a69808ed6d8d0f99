// What the tests of clarionctl share: the program, run inside the test.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace clarion::ctl {

struct Ran {
  int exit_code = 0;
  std::string out;
  std::string err;
};

// `clarionctl` with these arguments.
Ran Ctl(std::vector<std::string> arguments);

// A port where nobody listens.
uint16_t ClosedPort();

}  // namespace clarion::ctl
