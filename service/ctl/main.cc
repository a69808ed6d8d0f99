#include <exception>
#include <iostream>

#include "service/ctl/program.h"

int main(int argc, char** argv) {
  try {
    const int code = clarion::ctl::Main(argc, argv);
    if (std::cout.flush() || code != clarion::ctl::kOk) return code;
    std::cerr << "clarionctl: the output could not be written\n";
    return clarion::ctl::kFailed;
  } catch (const std::exception& error) {
    std::cerr << "clarionctl: " << error.what() << "\n";
    return clarion::ctl::kFailed;
  }
}
