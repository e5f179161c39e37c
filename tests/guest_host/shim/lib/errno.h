/* SPDX-License-Identifier: BSD-2-Clause */
/* Host version of the guest's lib/errno.h. */
#pragma once

#include <errno.h>
