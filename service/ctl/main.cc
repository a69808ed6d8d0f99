#include <exception>
#include <iostream>

#include "service/ctl/program.h"

int main(int argc, char** argv) {
  try {
    return clarion::ctl::Main(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "clarionctl: " << error.what() << "\n";
    return clarion::ctl::kFailed;
  }
}
