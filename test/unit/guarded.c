#include "guarded.h"

#include "support.h"

#include <sys/mman.h>
#include <unistd.h>

Guarded guarded(size_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), usable = (bytes + page - 1) / page * page;
    Guarded g = {.mapped = usable + page};
    g.mapping = mmap(NULL, g.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(g.mapping, MAP_FAILED);
    assert_int_equal(mprotect((char *)g.mapping + usable, page, PROT_NONE), 0);
    g.data = (char *)g.mapping + usable - bytes;
    return g;
}

void release(Guarded g) {
    munmap(g.mapping, g.mapped);
}
