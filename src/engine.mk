# The engine's sources, how they are compiled and what they link with, for the
# extension, the tests and the benchmark alike. Set ENGINE_DIR to this folder
# before including. ENGINE_SRCS is relative to it.

ENGINE_SRCS := $(patsubst $(ENGINE_DIR)/%,%,$(sort $(wildcard \
	$(addprefix $(ENGINE_DIR)/,engine.c base/*.c kernels/*.c model/*.c vision/*.c decoder/*.c))))

# OpenBLAS: the OpenMP build. Of the three that Debian has, the one with POSIX
# threads starts some at load time, which under shared_preload_libraries would be
# in the postmaster, and the serial one is not safe to call from two threads. Each
# build lies in a folder of its own and an alternative chooses the one on the
# common path; the rpath makes the choice ours. Elsewhere: whatever pkg-config
# calls openblas.
ENGINE_BLAS_DIR := $(wildcard /usr/lib/$(shell $(CC) -print-multiarch)/openblas-openmp)
ENGINE_PKG_CONFIG := $(if $(ENGINE_BLAS_DIR),PKG_CONFIG_PATH=$(ENGINE_BLAS_DIR)/pkgconfig) pkg-config
ENGINE_PACKAGES = openblas libjpeg libpng zlib libpcre2-8 jansson

ENGINE_INCLUDES := $(shell $(ENGINE_PKG_CONFIG) --cflags $(ENGINE_PACKAGES))
ENGINE_LIBS := $(ENGINE_BLAS_DIR:%=-Wl,-rpath,%) $(shell $(ENGINE_PKG_CONFIG) --libs $(ENGINE_PACKAGES)) \
	-pthread -lm

ENGINE_CFLAGS = -std=gnu11 -D_GNU_SOURCE -I$(ENGINE_DIR) $(ENGINE_INCLUDES) -pthread -fvisibility=hidden \
	-ffp-contract=off -O3 -fno-math-errno -fno-trapping-math \
	-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla
