// For std::unique_ptr to what a C library made.
#pragma once

namespace clarion {

//   using KeyPtr = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY_free>>;
template <auto Free>
struct Freer {
  template <class T>
  void operator()(T* object) const {
    Free(object);
  }
};

}  // namespace clarion
