"""The URLs of the service, for moto's server."""

import re

from testbed.sandbox.cloud.accelerator.responses import AcceleratorResponse

url_bases = [r"https?://globalaccelerator\.(.+)\.amazonaws\.com"]
url_paths = {"{0}/$": AcceleratorResponse.dispatch}
URL = re.compile(url_bases[0])
