/* SPDX-License-Identifier: BSD-2-Clause */
/* Host version of the guest's lib/string.h. */
#pragma once

#include "lib/types.h"

#include <stdio.h>
#include <string.h>
