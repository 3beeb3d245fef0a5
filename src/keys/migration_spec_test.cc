#include "keys/migration_spec.h"

#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <string>

namespace sealift::keys {
namespace {

MigrationSpec GoodSpec() {
  MigrationSpec spec;
  spec.id.fill(std::byte{0x11});
  spec.vm = "vm";
  spec.source = "spiffe://c/host/a";
  spec.destination = "spiffe://c/host/b";
  spec.streams = 4;
  return spec;
}

MigrationSpec With(const std::function<void(MigrationSpec&)>& change) {
  MigrationSpec spec = GoodSpec();
  change(spec);
  return spec;
}

TEST(CanonicalEncoding, HasEveryFieldInItsPlace) {
  EXPECT_EQ(base::ToHex(CanonicalEncoding(GoodSpec())),
            "7365616c6966742f312073706563"            // "sealift/1 spec"
            "11111111111111111111111111111111"        // id
            "0002766d"                                // vm
            "00117370696666653a2f2f632f686f73742f61"  // source
            "00117370696666653a2f2f632f686f73742f62"  // destination
            "01"                                      // protection
            "01"                                      // engine
            "0004"                                    // streams
            "00040000"                                // largest payload
            "14");                                    // rekey shift
}

TEST(HashSpec, DependsOnEveryField) {
  const MigrationSpec specs[] = {
      GoodSpec(),
      With([](MigrationSpec& s) { s.id[15] = std::byte{0}; }),
      With([](MigrationSpec& s) { s.vm = "VM"; }),
      With([](MigrationSpec& s) { s.source = "spiffe://c/host/c"; }),
      With([](MigrationSpec& s) { s.destination = "spiffe://c/host/c"; }),
      With([](MigrationSpec& s) { s.protection = Protection::kPlain; }),
      With([](MigrationSpec& s) { s.engine = Engine::kDirect; }),
      With([](MigrationSpec& s) { s.streams = 5; }),
      // The same letters, divided differently.
      With([](MigrationSpec& s) { s.vm = "vms", s.source = "piffe://c/host/a"; }),
  };
  std::set<SpecHash> hashes;
  for (const MigrationSpec& spec : specs) hashes.insert(HashSpec(spec));
  EXPECT_EQ(hashes.size(), std::size(specs));
}

TEST(ValidateSpec, AcceptsWhatIsComplete) {
  EXPECT_TRUE(ValidateSpec(GoodSpec()).ok());
  EXPECT_TRUE(ValidateSpec(With([](MigrationSpec& s) { s.vm.assign(kMaxSpecText, 'v'); })).ok());
}

TEST(ValidateSpec, RefusesWhatCannotBeEncodedOrMeansNothing) {
  const MigrationSpec bad[] = {
      With([](MigrationSpec& s) { s.vm.clear(); }),
      With([](MigrationSpec& s) { s.source.clear(); }),
      With([](MigrationSpec& s) { s.destination.clear(); }),
      With([](MigrationSpec& s) { s.vm.assign(kMaxSpecText + 1, 'v'); }),
      With([](MigrationSpec& s) { s.source.assign(kMaxSpecText + 1, 'v'); }),
      With([](MigrationSpec& s) { s.destination.assign(kMaxSpecText + 1, 'v'); }),
      With([](MigrationSpec& s) { s.destination = s.source; }),
      With([](MigrationSpec& s) { s.protection = Protection{0}; }),
      With([](MigrationSpec& s) { s.protection = Protection{3}; }),
      With([](MigrationSpec& s) { s.engine = Engine{0}; }),
      With([](MigrationSpec& s) { s.engine = Engine{3}; }),
      With([](MigrationSpec& s) { s.streams = 0; }),
  };
  for (const MigrationSpec& spec : bad) {
    EXPECT_TRUE(absl::IsInvalidArgument(ValidateSpec(spec))) << &spec - bad;
  }
}

}  // namespace
}  // namespace sealift::keys
